package demo

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pgtide/pgtide"
)

func TestZZ(t *testing.T) {
	untold, lostN := 0, 0
	for range 12 {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		d, err := Start(ctx, Options{Delay: 50 * time.Millisecond, Listen: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		const n = 16
		var sess [n]context.Context
		var last [n]string
		var done = make(chan int)
		for i := range n {
			sess[i] = pgtide.NewSession(ctx)
			go func() {
				for k := 0; ; k++ {
					text := fmt.Sprintf("w %d %d", i, k)
					_, err := d.db.Exec(sess[i], "insert into message (text) values ($1)", text)
					if err != nil {
						done <- i
						return
					}
					last[i] = text
				}
			}()
		}
		time.Sleep(100 * time.Millisecond)
		d.fast.Cut(ctx)
		time.Sleep(100 * time.Millisecond)
		d.cluster.Primary().Kill(ctx)
		for range n {
			<-done
		}
		if err := d.cluster.Promote(ctx, d.fast.Name()); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			var c int
			if err := d.db.QueryRow(pgtide.OnPrimary(sess[i]), "select count(*) from message where text=$1", last[i]).Scan(&c); err != nil && err != pgx.ErrNoRows {
				t.Error(err)
			}
			if c == 0 {
				lostN++
				if pgtide.Lost(sess[i]) == nil {
					untold++
					fmt.Fprintln(os.Stderr, "untold", last[i], pgtide.Explain(sess[i]))
				}
			}
		}
		d.Close()
		cancel()
	}
	fmt.Fprintln(os.Stderr, "lost", lostN, "untold", untold)
}
