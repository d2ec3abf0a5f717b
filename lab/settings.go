package lab

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	loopback     = "127.0.0.1"
	nodeConfFile = "lab.conf"
)

// renderServerConf is postgresql.conf: the same on every physical node. What
// differs between those, and what changes while they run, is in the included
// file.
func renderServerConf(s *state, n *nodeState) string {
	settings := map[string]string{
		"dynamic_shared_memory_type":  "mmap", // goes away with the folder, even after a kill
		"huge_pages":                  "off",
		"jit":                         "off",
		"lc_messages":                 "C",
		"log_line_prefix":             "%m [%p] ",
		"log_timezone":                "UTC",
		"max_connections":             "100",
		"max_replication_slots":       "16",
		"max_wal_senders":             "16",
		"password_encryption":         "scram-sha-256",
		"shared_buffers":              "32MB",
		"timezone":                    "UTC",
		"wal_keep_size":               "512MB",   // a replica stopped for a while finds its WAL
		"wal_level":                   "logical", // a fifth more WAL, so that a subscriber needs no restart
		"wal_retrieve_retry_interval": "100ms",
	}
	if !s.Durable {
		settings["fsync"] = "off"
		settings["full_page_writes"] = "off"
	}
	if n.Subscriber != nil {
		// Room for the copies of several tables at once.
		settings["max_logical_replication_workers"] = "8"
		settings["max_sync_workers_per_subscription"] = "4"
		settings["max_worker_processes"] = "16"
	}
	for name, value := range s.Settings {
		settings[strings.ToLower(name)] = value
	}
	fixed := map[string]string{
		"hot_standby":             "on",
		"listen_addresses":        loopback,
		"log_destination":         "stderr",
		"logging_collector":       "off",
		"unix_socket_directories": "",
	}
	maps.Copy(settings, fixed)

	var b strings.Builder
	b.WriteString("# Written by the lab at every start: ALTER SYSTEM is the place for changes.\n")
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&b, "%s = %s\n", name, quoteSetting(settings[name]))
	}
	fmt.Fprintf(&b, "include = '%s'\n", nodeConfFile)
	return b.String()
}

// renderNodeConf is the included file of one node.
func renderNodeConf(s *state, n *nodeState) string {
	conninfo := ""
	// Without a connection string the server starts no WAL receiver at all,
	// which is a cut link without the noise of refused connections.
	if up, err := s.node(s.Upstream); err == nil && up.Name != n.Name && !n.Cut && n.Subscriber == nil {
		conninfo = fmt.Sprintf("host=%s port=%d user=%s application_name=%s sslmode=disable gssencmode=disable",
			loopback, up.Port, replicationRole, n.Name)
		if password := s.Passwords[replicationRole]; password != "" {
			conninfo += " password=" + password
		}
	}
	var b strings.Builder
	b.WriteString("# Written by the lab whenever the node's place or faults change.\n")
	fmt.Fprintf(&b, "port = %d\n", n.Port)
	fmt.Fprintf(&b, "cluster_name = %s\n", quoteSetting(n.Name))
	fmt.Fprintf(&b, "primary_conninfo = %s\n", quoteSetting(conninfo))
	fmt.Fprintf(&b, "recovery_min_apply_delay = '%s'\n", delaySetting(n.ApplyDelay))
	switch {
	case n.Subscriber != nil:
		// The settings of the cluster may say whom its commits wait for.
		fmt.Fprintf(&b, "%s = ''\n", settingSyncStandbys)
	case s.Sync != SyncOff:
		standbys, commit := syncSettings(s, n)
		fmt.Fprintf(&b, "%s = %s\n%s = %s\n", settingSyncStandbys, quoteSetting(standbys), settingSyncCommit, quoteSetting(commit))
	}
	return b.String()
}

// delaySetting writes a delay the way the server counts it, in milliseconds.
func delaySetting(d time.Duration) string {
	return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
}

// renderHBA lets everybody in from this machine and nobody from elsewhere.
func renderHBA(s *state) string {
	method := "trust"
	if s.Auth == Password {
		method = "scram-sha-256"
	}
	return fmt.Sprintf("host all all %s/32 %s\nhost replication %s %s/32 %s\n",
		loopback, method, replicationRole, loopback, method)
}

func quoteSetting(value string) string {
	return "'" + strings.NewReplacer(`'`, `''`, `\`, `\\`).Replace(value) + "'"
}
