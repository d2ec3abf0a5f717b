// Stale is a message board with a bug that no test finds whose replicas never
// lag: it writes to the primary and reads from a replica. board_test.go finds it,
// with the line. The program starts a cluster whose replica is a second late, posts
// a message and prints what the page shows, with the bug and without.
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/lab"
	"github.com/pgtide/pgtide/pgtidehttp"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer) error {
	cluster, err := lab.Start(ctx, lab.Options{Replicas: 1})
	if err != nil {
		return err
	}
	defer cluster.Close()
	primary, err := pgxpool.New(ctx, cluster.Primary().DSN())
	if err != nil {
		return err
	}
	defer primary.Close()
	replica, err := pgxpool.New(ctx, cluster.Replicas()[0].DSN())
	if err != nil {
		return err
	}
	defer replica.Close()
	db, err := pgtide.Open(ctx, pgtide.Options{DSN: cluster.DSN()})
	if err != nil {
		return err
	}
	defer db.Close()
	onPgtide, err := fixed(db, []byte(rand.Text()+rand.Text()))
	if err != nil {
		return err
	}
	if _, err := primary.Exec(ctx, schema); err != nil {
		return err
	}
	if err := cluster.WaitCaughtUp(ctx); err != nil {
		return err
	}
	if err := cluster.Replicas()[0].SetApplyDelay(ctx, time.Second); err != nil {
		return err
	}
	for _, c := range []struct {
		name  string
		board http.Handler
	}{
		{"reads from the replica", newBoard(primary, replica)},
		{"reads through pgtide", onPgtide},
	} {
		page, err := post(c.board, c.name)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: whoever has posted sees %q\n", c.name, page)
	}
	return nil
}

// fixed is the board without the bug: a request is a session, which a cookie takes
// on to the next one. All instances of the service need the same secret.
func fixed(db *pgtide.DB, secret []byte) (http.Handler, error) {
	keys, err := pgtide.NewKeys(secret)
	if err != nil {
		return nil, err
	}
	return pgtidehttp.New(db, pgtidehttp.Options{Keys: keys}).Wrap(newBoard(db, db)), nil
}

// post posts a message as a browser does, and returns the page it is sent to.
func post(board http.Handler, text string) (string, error) {
	server := httptest.NewTLSServer(board)
	defer server.Close()
	jar, err := cookiejar.New(nil)
	if err != nil {
		return "", err
	}
	client := server.Client()
	client.Jar = jar
	answer, err := client.PostForm(server.URL+"/messages", url.Values{"text": {text}})
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	page, err := io.ReadAll(answer.Body)
	return string(page), err
}
