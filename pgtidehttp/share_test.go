package pgtidehttp_test

import (
	"net/http"
	"testing"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidehttp"
)

// A route that is ahead of the others in a roll-out.
func TestReadShareOfARoute(t *testing.T) {
	i := newApp(t, cluster, pgtide.Options{Shadow: true, MaxStaleness: -1}, pgtidehttp.Options{})
	var seen []pgtide.Decision
	read := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := i.db.QueryRow(r.Context(), "select 1").Scan(new(int)); err != nil {
			t.Error(err)
		}
		seen = pgtide.Explain(r.Context())
	})
	i.mux.Handle("GET /ahead", pgtidehttp.ReadShare(1, read))
	i.mux.Handle("GET /behind", read)
	for path, want := range map[string]pgtide.Role{"/ahead": pgtide.RoleReplica, "/behind": pgtide.RolePrimary} {
		resp, err := i.Client().Get(i.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if d := seen[len(seen)-1]; d.Role != want || (want == pgtide.RolePrimary) != (d.WouldNode != "") {
			t.Errorf("%s: %+v, want the %s", path, d, want)
		}
	}
}
