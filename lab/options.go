package lab

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Auth is how clients and replicas prove who they are.
type Auth string

const (
	// Trust asks for no password: any local program may connect as anyone.
	Trust Auth = "trust"
	// Password uses scram-sha-256 with a random password for each role, kept
	// in the cluster folder's lab.json, which only its owner can read.
	Password Auth = "password"
)

// Defaults of [Options].
const (
	DefaultAppRole  = "app"
	DefaultDatabase = "app"
)

// Roles the lab makes for itself in every cluster.
const (
	superuserRole   = "postgres"
	replicationRole = "replicator"
)

// defaultTimeout bounds every operation whose context has no deadline.
const defaultTimeout = 60 * time.Second

// Options says what cluster [Start] makes. The zero value is a lone primary
// in a temporary folder that is gone after [Cluster.Close].
type Options struct {
	// Dir is the cluster folder. Empty means a temporary one, which Close
	// removes. A named folder is made if missing and always kept; if it holds
	// a cluster the lab made before, that cluster is started again as it is
	// and only Settings, Durable, Synchronous and missing Replicas are applied.
	Dir string

	// Replicas is the number of streaming replicas. Zero means none.
	Replicas int

	// Auth is Trust or Password. Empty means Trust.
	Auth Auth

	// AppRole is the application's role: it may log in, owns Database and is
	// a member of pg_monitor, nothing more. Empty means DefaultAppRole.
	AppRole string

	// Database is the application's database. Empty means DefaultDatabase.
	Database string

	// BinDir is the folder with the initdb and postgres programs. Empty means
	// to look for them, see the package comment.
	BinDir string

	// Durable makes the servers survive a crash of the machine, as they would
	// in production. False turns fsync and full_page_writes off: a killed
	// server still loses nothing, a crashed machine may lose the cluster.
	Durable bool

	// Detach lets the servers outlive this process once Start has returned.
	// Close, also on a handle from [Open] in another process, stops them.
	Detach bool

	// Keep leaves a temporary folder in place after Close, and what there is
	// of the cluster after a Start that did not succeed.
	Keep bool

	// Synchronous makes commits on the primary wait for replicas, see
	// [Cluster.SetSynchronous]. SyncOff, the zero value, makes replication
	// asynchronous, and leaves a cluster that a named folder holds as it is.
	Synchronous Sync

	// SyncReplicas names the nodes that commits wait for while they are
	// replicas, such as node2. Empty means all, those added later too.
	SyncReplicas []string

	// Settings are further server settings, the same on every node. Those the
	// lab depends on, such as port or primary_conninfo, are refused. With
	// wal_level at replica instead of logical there can be no subscribers.
	Settings map[string]string

	// Logf receives one line per step. Nil means silence. It is called from
	// several goroutines and must not block.
	Logf func(format string, args ...any)

	_ struct{}
}

// ownSettings are the settings a node cannot work without having its way.
var ownSettings = map[string]bool{
	"cluster_name": true, "config_file": true, "data_directory": true,
	"hba_file": true, "hot_standby": true, "listen_addresses": true,
	"logging_collector": true, "log_destination": true, "port": true,
	"primary_conninfo": true, "recovery_min_apply_delay": true,
	"unix_socket_directories": true,
}

var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)

// normalize fills in defaults and returns the first problem in words.
func (o Options) normalize() (Options, error) {
	if o.Replicas < 0 {
		return o, fmt.Errorf("options: %d replicas: give zero or more", o.Replicas)
	}
	if o.Auth == "" {
		o.Auth = Trust
	}
	if o.Auth != Trust && o.Auth != Password {
		return o, fmt.Errorf("options: unknown auth %q: give %q or %q", o.Auth, Trust, Password)
	}
	if o.AppRole == "" {
		o.AppRole = DefaultAppRole
	}
	if o.Database == "" {
		o.Database = DefaultDatabase
	}
	if o.AppRole == superuserRole || o.AppRole == replicationRole || strings.HasPrefix(o.AppRole, "pg_") {
		return o, fmt.Errorf("options: role %q is the server's own: name the application's role otherwise", o.AppRole)
	}
	if err := o.Synchronous.check(); err != nil {
		return o, fmt.Errorf("options: %w", err)
	}
	if o.Synchronous == SyncOff && len(o.SyncReplicas) > 0 {
		return o, fmt.Errorf("options: SyncReplicas name %s but Synchronous is off: say %q or %q", strings.Join(o.SyncReplicas, ", "), SyncOn, SyncRemoteApply)
	}
	if o.Database == "postgres" || strings.HasPrefix(o.Database, "template") {
		return o, fmt.Errorf("options: database %q is the server's own: name the application's database otherwise", o.Database)
	}
	for _, name := range []string{o.AppRole, o.Database} {
		if len(name) > 63 || strings.ContainsAny(name, "\x00\n\r") {
			return o, fmt.Errorf("options: %q cannot be a name: at most 63 bytes on one line", name)
		}
	}
	for name, value := range o.Settings {
		if !settingName.MatchString(name) {
			return o, fmt.Errorf("options: %q is not the name of a setting", name)
		}
		if ownSettings[strings.ToLower(name)] {
			return o, fmt.Errorf("options: setting %s belongs to the lab", name)
		}
		if lower := strings.ToLower(name); o.Synchronous != SyncOff && (lower == settingSyncStandbys || lower == settingSyncCommit) {
			return o, fmt.Errorf("options: setting %s and Synchronous both say what commits wait for: give one of them", name)
		}
		if strings.ContainsAny(value, "\x00\n\r") {
			return o, fmt.Errorf("options: the value of setting %s must be one line", name)
		}
	}
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	return o, nil
}
