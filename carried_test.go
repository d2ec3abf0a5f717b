package pgtide_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
)

// TestSessionLevelGoesOnElsewhere has a page read by one process and the next one by
// another, before any node has been looked at again: what the first one was shown is
// only known to be where it was.
func TestSessionLevelGoesOnElsewhere(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 2})
	o := pgtide.Options{Consistency: pgtide.Session, ProbeInterval: time.Hour, MaxStaleness: -1, WaitBudget: -1}
	first, second := open(t, c, o), open(t, c, o)
	ctx := pgtide.NewSession(t.Context())
	page := func(ctx context.Context, db *pgtide.DB) pgtide.Decision {
		t.Helper()
		if err := db.QueryRow(ctx, "select count(*) from message").Scan(new(int)); err != nil {
			t.Fatal(err)
		}
		return last(t, ctx)
	}
	was := page(ctx, first)
	if was.Role != pgtide.RoleReplica {
		t.Fatalf("the first page: %v, want a replica", was)
	}
	token, ok := pgtide.TokenFrom(ctx)
	if !ok {
		t.Fatal("a session that was shown something has no token")
	}
	text, err := token.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var carried pgtide.Token
	if err := carried.UnmarshalText(text); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		next := pgtide.WithToken(t.Context(), carried)
		if is := page(next, second); is.Node != was.Node {
			t.Fatalf("the next page: %v, want %s as before", is, was.Node)
		}
		carried, _ = pgtide.TokenFrom(next)
	}
	if second.Settled(carried) {
		t.Error("Settled, of what no position covers")
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := second.WaitFor(short, carried); err != nil {
		t.Errorf("WaitFor: %v", err)
	}

	// In another run that server may show less than it did.
	node, err := c.Node(was.Node)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(node.Stop(t.Context()), node.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	third := open(t, c, o)
	if is := page(pgtide.WithToken(t.Context(), carried), third); is.Role != pgtide.RolePrimary {
		t.Errorf("after a restart of %s: %v, want the primary", was.Node, is)
	}
}

// TestTokensConcernTheirSessions has clients show tokens of writes whose positions are
// not known, as anybody who has got one can, as often as they like. What runs outside
// a session is not sent to the primary for it.
func TestTokensConcernTheirSessions(t *testing.T) {
	t.Parallel()
	c := start(t, lab.Options{Replicas: 1})
	db := open(t, c, pgtide.Options{ProbeInterval: time.Hour, MaxStaleness: -1, WaitBudget: -1})
	role := func(ctx context.Context) (role string) {
		t.Helper()
		if err := db.QueryRow(ctx, "select case when pg_is_in_recovery() then 'replica' else 'primary' end").Scan(&role); err != nil {
			t.Fatal(err)
		}
		return role
	}
	b := binary.BigEndian.AppendUint64([]byte{1, 1}, db.SystemID())
	var unplaced pgtide.Token
	if err := unplaced.UnmarshalText([]byte(base64.RawURLEncoding.EncodeToString(append(b, make([]byte, 16)...)))); err != nil {
		t.Fatal(err)
	}
	if is := role(t.Context()); is != "replica" {
		t.Fatalf("a read outside a session, at first: %s, want replica", is)
	}
	if is := role(pgtide.WithToken(t.Context(), unplaced)); is != "primary" {
		t.Errorf("a read with the token: %s, want primary", is)
	}
	if is := role(t.Context()); is != "replica" {
		t.Errorf("a read outside a session, after a client has shown a token: %s, want replica", is)
	}
	if _, err := db.Exec(t.Context(), "delete from message where false"); err != nil {
		t.Fatal(err)
	}
	if is := role(t.Context()); is != "primary" {
		t.Errorf("a read outside a session, after a write: %s, want primary", is)
	}
}

// A session that has read at the primary goes on at a replica as soon as one has
// caught up with that, not when its patience has ended.
func TestSessionWaitsNoLongerThanItMust(t *testing.T) {
	t.Parallel()
	db := open(t, shared, pgtide.Options{Consistency: pgtide.Session, WaitBudget: 20 * time.Second, ProbeInterval: 10 * time.Second})
	ctx := pgtide.NewSession(t.Context())
	for range 5 {
		if err := db.QueryRow(pgtide.OnPrimary(ctx), "select 1").Scan(new(int)); err != nil {
			t.Fatal(err)
		}
		if err := db.QueryRow(ctx, "select 1").Scan(new(int)); err != nil {
			t.Fatal(err)
		}
		if d := last(t, ctx); d.Role != pgtide.RoleReplica || d.Waited > 10*time.Second {
			t.Errorf("after a read at the primary: %v, want a replica soon", d)
		}
	}
}
