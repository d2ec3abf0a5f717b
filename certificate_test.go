package pgtide_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

// authority signs certificates for servers on this machine.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // what clients trust
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{file: filepath.Join(t.TempDir(), "root.crt")}
	a.key = newKey(t)
	der := a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotAfter: time.Now().Add(time.Hour),
	}, &a.key.PublicKey)
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.file, pemOf("CERTIFICATE", der), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func (a *authority) sign(t *testing.T, c *x509.Certificate, key *ecdsa.PublicKey) []byte {
	t.Helper()
	c.SerialNumber, c.NotBefore = big.NewInt(time.Now().UnixNano()), time.Now().Add(-2*time.Hour)
	parent := a.cert
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// certify has a server use a new certificate that is good until then. The server
// itself writes the files, which must be its own.
func (a *authority) certify(t *testing.T, node *lab.Node, until time.Time) {
	t.Helper()
	key := newKey(t)
	der := a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: node.Name()}, NotAfter: until, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, &key.PublicKey)
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	super := supervisor(t, node)
	for file, text := range map[string][]byte{"server.crt": pemOf("CERTIFICATE", der), "server.key": pemOf("EC PRIVATE KEY", private)} {
		must(t, super, fmt.Sprintf("copy (select unnest(string_to_array(trim('%s'), E'\n'))) to program 'umask 077; cat > %s'",
			strings.TrimSpace(string(text)), file))
	}
	must(t, super, "alter system set ssl = on", "select pg_reload_conf()")
}

// serves reports whether a new connection as the DSN has it can be made.
func serves(t *testing.T, dsn string) error {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err == nil {
		conn.Close(t.Context())
	}
	return err
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	ours, others := newAuthority(t), newAuthority(t)
	list := nodes(c)
	for i := range list {
		secure := "sslmode=verify-full&sslrootcert=" + ours.file
		list[i].DSN = strings.Replace(list[i].DSN, "sslmode=disable", secure, 1)
		if !strings.Contains(list[i].DSN, secure) {
			t.Fatalf("the DSN %s does not say what it needs", list[i].DSN)
		}
	}
	replica := c.Replicas()[0]
	ours.certify(t, c.Primary(), time.Now().Add(time.Hour))
	until(t, "the primary to use its certificate", func() bool { return serves(t, list[0].DSN) == nil })

	for name, bad := range map[string]struct {
		certify func()
		says    string
	}{
		"expired":       {func() { ours.certify(t, replica, time.Now().Add(-time.Hour)) }, "expired"},
		"of a stranger": {func() { others.certify(t, replica, time.Now().Add(time.Hour)) }, "unknown authority"},
	} {
		bad.certify()
		until(t, "the replica to use its certificate", func() bool {
			err := serves(t, list[1].DSN)
			return err != nil && strings.Contains(err.Error(), bad.says)
		})
		db := open(t, c, pgtide.Options{Nodes: list})
		n := db.Nodes()[1]
		if n.State != "down" || !strings.Contains(n.Err, bad.says) || !strings.Contains(n.Err, n.Name) {
			t.Errorf("certificate %s: the node is %s: %s; want it down, and why", name, n.State, n.Err)
		}
		ctx := pgtide.NewSession(t.Context())
		read(t, ctx, db, insert(t, ctx, db, "served by the other"))

		ours.certify(t, replica, time.Now().Add(time.Hour))
		until(t, "the replica to be used", func() bool {
			ctx := pgtide.NewSession(t.Context())
			_, err := db.Exec(ctx, "select 1")
			return err == nil && last(t, ctx).Role == pgtide.RoleReplica
		})
		// It expires while the watcher has its connection: new ones are refused.
		bad.certify()
		until(t, "the replica to use its certificate", func() bool { return serves(t, list[1].DSN) != nil })
		db.Reset()
		for range 5 {
			ctx := pgtide.NewSession(t.Context())
			if _, err := db.Exec(ctx, "select 1"); err != nil || last(t, ctx).Role != pgtide.RolePrimary {
				t.Errorf("certificate %s: read: %v; decisions %v; want it at the primary", name, err, pgtide.Explain(ctx))
			}
		}
		db.Close()
	}
}
