package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgtide/pgtide/lab"
)

// The whole suite in its shortest form: its times mean nothing, its counts do.
func TestSuite(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	if err := run(ctx, []string{"-suite", "sql", "-rounds", "1", "-json"}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Results {
		counts := s.Unit == "allocs" || s.Unit == "reads"
		switch {
		case counts && !s.OK:
			t.Errorf("%s: %v %s, the budget is %v", s.Name, s.Ours, s.Unit, s.Budget)
		case !counts && s.Ours <= 0:
			t.Errorf("%s took %v %s", s.Name, s.Ours, s.Unit)
		}
	}
	if len(r.Peers) != len(contenders) {
		t.Fatalf("%d routers are compared, want %d", len(r.Peers), len(contenders))
	}
	for _, p := range r.Peers {
		// Routers that know nothing of replication miss every write that is not
		// applied: were they to see one, the replica would not be paused.
		want := readsAfterWrites
		if p.Router == "pgtide" {
			want = 0
		}
		if p.Stale != want || p.Reads != readsAfterWrites {
			t.Errorf("%s for %s: %d of %d reads are stale, want %d of %d", p.Router, p.Library, p.Stale, p.Reads, want, readsAfterWrites)
		}
		if p.Read.Ratio <= 0 || p.Insert.Ratio <= 0 || p.ClientRead.Ratio <= 0 || p.ClientInsert.Ratio <= 0 {
			t.Errorf("%s for %s: a time is missing: %+v", p.Router, p.Library, p)
		}
		if (p.NoopRead != nil) != (p.Router != "pgtide") {
			t.Errorf("%s for %s: on the no-op driver: %+v", p.Router, p.Library, p.NoopRead)
		}
	}
	var table bytes.Buffer
	if err := r.print(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"sql: QueryRow in a session, 64 at once", "gorm dbresolver", "200 of 200"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &table)
		}
	}
}

// What is replayed does not reach the server again, and reads as it did.
func TestReplayed(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cluster, err := lab.Start(ctx, lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	dsn := cluster.Primary().DSN()
	if err := setup(ctx, dsn); err != nil {
		t.Fatal(err)
	}
	s := servers{primary: dsn, replay: &dialer{made: &sync.Map{}}}
	db, err := s.stdlib(dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const each = 10
	for _, call := range []func(context.Context) error{write(db), transact(db)} {
		for range each {
			if err := call(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	plain, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	// One row is of setup, one of each call; a driver that was held up may ask
	// once more.
	const least, most = 3, each
	var got int
	if err := plain.QueryRowContext(ctx, "select count(*) from bench").Scan(&got); err != nil {
		t.Fatal(err)
	}
	if got < least || got > most {
		t.Errorf("the table has %d rows, want %d to %d", got, least, most)
	}
}

func TestText(t *testing.T) {
	for _, size := range []int{50, 500, 5_000, 50_000} {
		if got := len(text(size)); got != size {
			t.Errorf("text(%d) has %d bytes", size, got)
		}
	}
}
