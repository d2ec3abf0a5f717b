package pgtidetest_test

import (
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidetest"
)

func TestNew(t *testing.T) {
	t.Parallel()
	tide := pgtidetest.New(t)
	if got := tide.Replicas(); len(got) != pgtidetest.DefaultReplicas {
		t.Fatalf("replicas %v, want %d", got, pgtidetest.DefaultReplicas)
	}
	wantShown(t, tide, "", append(tide.Replicas(), tide.Primary())...)

	ctx := pgtide.NewSession(t.Context())
	if _, err := tide.Exec(ctx, "insert into message values ('mine')"); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := tide.SQL().QueryRowContext(ctx, "select count(*) from message").Scan(&n); err != nil || n != 1 {
		t.Errorf("the *sql.DB sees %d rows, %v; want 1", n, err)
	}
	if one, two := tide.SQL(), tide.SQL(); one != two {
		t.Error("SQL returns another *sql.DB each time")
	}
	second := tide.Open(pgtide.Options{Consistency: pgtide.Strong})
	if err := second.QueryRow(t.Context(), "select count(*) from message").Scan(&n); err != nil || n != 1 {
		t.Errorf("another DB sees %d rows, %v; want 1", n, err)
	}
	tide.WaitReplicas(t.Context())
	wantShown(t, tide, "mine", tide.Replicas()...)

	// The owner is no superuser, and another test has another database.
	var super bool
	if err := tide.QueryRow(t.Context(), "select current_setting('is_superuser')::bool").Scan(&super); err != nil || super {
		t.Errorf("superuser %v, %v; want the application's role", super, err)
	}
	if other := pgtidetest.New(t); other.DSN(other.Primary()) == tide.DSN(tide.Primary()) {
		t.Error("two tests have the same database")
	} else {
		wantShown(t, other, "", other.Primary())
	}
}

// Without options of its own a test has those of Main; an empty one is empty.
func TestNewWith(t *testing.T) {
	t.Parallel()
	tide := pgtidetest.NewWith(t, pgtidetest.Options{Replicas: 1, Settings: map[string]string{"work_mem": "7MB"}})
	if got := tide.Replicas(); len(got) != 1 {
		t.Errorf("replicas %v, want one", got)
	}
	var setting string
	var tables int
	err := tide.QueryRow(t.Context(), "select current_setting('work_mem'), (select count(*) from pg_tables where schemaname = 'public')").Scan(&setting, &tables)
	if err != nil || setting != "7MB" || tables != 0 {
		t.Errorf("work_mem %s and %d tables, %v; want 7MB and none", setting, tables, err)
	}
}

// A subtest's cluster does not wait for its parent's, however few there are.
func TestNested(t *testing.T) {
	t.Parallel()
	newProgram(t, pgtidetest.EnvClusters+"=1").mustRun(t, "nested")
}

func init() {
	scenarios["nested"] = func(t *testing.T) {
		tide := pgtidetest.New(t)
		for range 3 {
			t.Run("inner", func(t *testing.T) {
				t.Parallel()
				if inner := pgtidetest.New(t); inner.Dir() == tide.Dir() {
					t.Error("two tests at once on one cluster")
				}
			})
		}
	}
}

// The DB can be sent through proxies, while the kit itself reaches the servers.
func TestAddress(t *testing.T) {
	t.Parallel()
	var seen sync.Map
	tide := pgtidetest.NewWith(t, pgtidetest.Options{Address: func(node, address string) string {
		return forward(t, address, func() { seen.Store(node, true) })
	}})
	if _, err := tide.Exec(t.Context(), "create table t ()"); err != nil {
		t.Fatal(err)
	}
	for _, node := range append(tide.Replicas(), tide.Primary()) {
		if _, ok := seen.Load(node); !ok {
			t.Errorf("%s was not reached through its proxy", node)
		}
	}
}

// forward listens for connections to hand on, until the end of the test.
func forward(t *testing.T, address string, used func()) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			used()
			out, err := net.Dial("tcp", address)
			if err != nil {
				in.Close()
				continue
			}
			for _, way := range [2][2]net.Conn{{in, out}, {out, in}} {
				all.Go(func() {
					io.Copy(way[0], way[1])
					way[0].Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	return l.Addr().String()
}

// A test leaves no goroutine behind. It does not run beside others.
func TestGoroutines(t *testing.T) {
	t.Run("everything", func(t *testing.T) {
		tide := pgtidetest.New(t)
		tide.Freeze()
		write(t, tide, "a")
		tide.Step()
		tide.Thaw()
		tide.WaitReplicas(t.Context())
		if err := tide.SQL().PingContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		shown(t, tide, tide.Primary())
		tide.Kill(tide.Replicas()[0])
	})
	var stacks string
	until(t, "goroutines to end:\n"+stacks, func() bool {
		text := make([]byte, 1<<20)
		stacks = string(text[:runtime.Stack(text, true)])
		left := 0
		for stack := range strings.SplitSeq(stacks, "\n\n") {
			// This one, and tests that wait for their turn.
			if !strings.Contains(stack, "TestGoroutines") && !strings.Contains(stack, "testing.") && strings.Contains(stack, "pg") {
				left++
			}
		}
		return left == 0
	})
}

func BenchmarkNew(b *testing.B) {
	pgtidetest.New(b) // the cluster and the template
	for b.Loop() {
		b.StopTimer()
		suffering := &victim{TB: b}
		b.StartTimer()
		pgtidetest.New(suffering)
		b.StopTimer()
		for i := len(suffering.cleanups) - 1; i >= 0; i-- {
			suffering.cleanups[i]()
		}
		b.StartTimer()
	}
}
