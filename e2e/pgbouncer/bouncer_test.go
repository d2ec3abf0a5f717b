package pgbouncer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide/lab"
)

// bouncer is a PgBouncer in front of one node.
type bouncer struct {
	node     *lab.Node
	folder   string
	port     int
	settings map[string]string // beside those that every test needs
	// databases are those of the configuration. Empty is the node's.
	databases string
	process   *exec.Cmd
	ended     chan struct{}
}

// admin may use the console, as nobody else may.
const admin = "admin"

// startBouncer starts a PgBouncer in front of n. settings override its own.
func startBouncer(t *testing.T, n *lab.Node, settings map[string]string) *bouncer {
	t.Helper()
	folder, err := os.MkdirTemp("", "pgtide-pgbouncer-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	b := &bouncer{node: n, folder: folder, settings: settings}
	t.Cleanup(func() {
		b.stop()
		if t.Failed() {
			log, _ := os.ReadFile(b.path("log"))
			t.Logf("PgBouncer of %s:\n%s", n.Name(), log)
		}
	})
	// Nobody keeps a free port free until it is used.
	for try := 1; ; try++ {
		if b.port, err = freePort(); err != nil {
			t.Fatal(err)
		}
		if err = b.start(t.Context()); err == nil {
			return b
		}
		if try == 3 {
			log, _ := os.ReadFile(b.path("log"))
			t.Fatalf("%v\n%s", err, log)
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func (b *bouncer) path(name string) string { return filepath.Join(b.folder, name) }

// configure writes the configuration: transaction mode, and nothing that a
// driver could want to be forgiven.
func (b *bouncer) configure(uid, gid int) error {
	all := map[string]string{
		"listen_addr": "127.0.0.1", "listen_port": fmt.Sprint(b.port), "unix_socket_dir": "",
		"auth_type": "trust", "auth_file": b.path("users"), "admin_users": admin,
		"pool_mode": "transaction", "default_pool_size": "4",
	}
	for k, v := range b.settings {
		all[k] = v
	}
	var ini strings.Builder
	if b.databases == "" {
		b.databases = fmt.Sprintf("app = host=127.0.0.1 port=%d dbname=app", b.node.Port())
	}
	fmt.Fprintf(&ini, "[databases]\n%s\n[pgbouncer]\n", b.databases)
	for k, v := range all {
		fmt.Fprintf(&ini, "%s = %s\n", k, v)
	}
	users := fmt.Sprintf("\"app\" \"\"\n\"postgres\" \"\"\n\"%s\" \"\"\n", admin)
	for name, text := range map[string]string{"ini": ini.String(), "users": users} {
		if err := os.WriteFile(b.path(name), []byte(text), 0o600); err != nil {
			return err
		}
		if err := os.Chown(b.path(name), uid, gid); err != nil {
			return err
		}
	}
	return os.Chown(b.folder, uid, gid)
}

// start runs the process and waits until it answers.
func (b *bouncer) start(ctx context.Context) error {
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		// Debian keeps it out of the way of users.
		if program, err = exec.LookPath("/usr/sbin/pgbouncer"); err != nil {
			return errors.New("there is no pgbouncer: run scripts/pgbouncer.sh")
		}
	}
	attr, uid, gid, err := unprivileged()
	if err != nil {
		return err
	}
	if err := b.configure(uid, gid); err != nil {
		return err
	}
	log, err := os.OpenFile(b.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(program, b.path("ini"))
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = b.folder, log, log, attr
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	b.process, b.ended = cmd, ended
	go func() {
		_ = cmd.Wait() // it is killed
		close(ended)
	}()
	// It tells nobody when it is ready.
	deadline := time.After(10 * time.Second)
	for {
		if err = b.console(ctx, "show version"); err == nil {
			return nil
		}
		select {
		case <-ended:
			return errors.New("pgbouncer has ended")
		case <-deadline:
			b.stop()
			return fmt.Errorf("pgbouncer does not answer within 10 s: %w", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// stop kills the process.
func (b *bouncer) stop() {
	if b.process == nil {
		return
	}
	_ = b.process.Process.Kill() // it may have ended
	<-b.ended
	b.process = nil
}

// console runs a command of the administrator.
func (b *bouncer) console(ctx context.Context, command string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	config, err := pgx.ParseConfig(fmt.Sprintf("postgres://%s@127.0.0.1:%d/pgbouncer?sslmode=disable", admin, b.port))
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.PgConn().Exec(ctx, command).ReadAll()
	return err
}

// must is console for a command that has to succeed.
func (b *bouncer) must(t *testing.T, command string) {
	t.Helper()
	if err := b.console(t.Context(), command); err != nil {
		t.Fatalf("%s: %v", command, err)
	}
}

// dsn leads to the node's database through the pooler.
func (b *bouncer) dsn() string {
	return fmt.Sprintf("postgres://app@127.0.0.1:%d/app?sslmode=disable", b.port)
}
