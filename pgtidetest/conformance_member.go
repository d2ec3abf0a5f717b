package pgtidetest

import (
	"context"
	"slices"
	"strings"
)

// member is a process of the application, as a check sees it: what fails ends the
// check.
type member struct {
	c     *conformity
	front Front
}

// session begins a session, or goes on with one.
func (m *member) session(token string) context.Context {
	m.c.Helper()
	ctx, err := m.front.Session(m.c.Context(), token)
	if err != nil {
		m.c.Fatalf("begin a session: %v", err)
	}
	return ctx
}

func (m *member) token(ctx context.Context) string {
	m.c.Helper()
	token, err := m.front.Token(ctx)
	if err != nil {
		m.c.Fatalf("ask for the session's token: %v", err)
	}
	return token
}

// insert adds a row.
func (m *member) insert(ctx context.Context, id string) {
	m.c.Helper()
	if err := m.front.Exec(ctx, "insert into conformance values ($1)", id); err != nil {
		m.c.Fatalf("insert %s: %v", id, err)
	}
}

// sees reports whether a row is there.
func (m *member) sees(ctx context.Context, id string) bool {
	m.c.Helper()
	return m.c.finds(ctx, m.front, id)
}

// want fails the check unless the row is there, or is not.
func (m *member) want(ctx context.Context, id string, there bool) {
	m.c.Helper()
	m.c.wants(ctx, m.front, id, there)
}

func (c *conformity) finds(ctx context.Context, on Statements, id string) bool {
	c.Helper()
	rows, err := on.Query(ctx, "select id from conformance where id = $1", id)
	if err != nil {
		c.Fatalf("read %s: %v", id, err)
	}
	return len(rows) == 1 && slices.Equal(rows[0], []string{id})
}

func (c *conformity) wants(ctx context.Context, on Statements, id string, there bool) {
	c.Helper()
	if c.finds(ctx, on, id) == there {
		return
	}
	if there {
		c.Errorf("the row %s is missing", id)
	} else {
		c.Errorf("the row %s is there", id)
	}
}

// stored counts the rows of a table at the primary, past the front.
func (c *conformity) stored(table, id string) (n int) {
	c.Helper()
	return c.storedAt(c.tide.Primary(), table, id)
}

func (c *conformity) storedAt(node, table, id string) (n int) {
	c.Helper()
	conn := c.tide.Connect(node)
	if err := conn.QueryRow(c.Context(), "select count(*) from "+table+" where id = $1", id).Scan(&n); err != nil {
		c.Fatalf("count the rows at %s: %v", node, err)
	}
	return n
}

// behind makes sure that the replicas lack the row: else a check would prove
// nothing.
func (c *conformity) behind(id string) {
	c.Helper()
	for _, replica := range c.tide.Replicas() {
		if c.storedAt(replica, "conformance", id) != 0 {
			c.Fatalf("the frozen %s has the row %s", replica, id)
		}
	}
}

// served lists the nodes that a statement with this text was sent to.
func (c *conformity) served(text string) (nodes []string) {
	for _, s := range c.witness.seen() {
		if strings.Contains(s.text, text) {
			nodes = append(nodes, s.node)
		}
	}
	return nodes
}
