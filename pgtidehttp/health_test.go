package pgtidehttp

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pgtide/pgtide"
)

func ask(h http.Handler, r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func TestHealth(t *testing.T) {
	up := []pgtide.NodeStatus{
		{Name: "a", Role: pgtide.RolePrimary, State: "up", Writable: true, LSN: "0/100"},
		{Name: "b", Role: pgtide.RoleReplica, State: "down", Err: "dial app@10.0.0.7: password=hunter2"},
	}
	down := []pgtide.NodeStatus{{Name: "a", State: "down", Err: "app@10.0.0.7"}}
	for _, tt := range []struct {
		name   string
		h      http.Handler
		status int
		body   string
	}{
		{"live", Live(), 200, `{"live":true}`},
		{"ready", ready(&fakeDB{nodes: up}), 200, `{"ready":true,"writable":true}`},
		{"ready to read", ready(&fakeDB{nodes: up, down: true}), 200, `{"ready":true,"writable":false}`},
		{"not ready", ready(&fakeDB{nodes: down, down: true}), 503, `{"ready":false,"writable":false}`},
		{"status", status(&fakeDB{nodes: up}), 200, `{"writable":true,"nodes":[{"name":"a","role":"primary","state":"up","writable":true,`},
		{"status of nothing", status(&fakeDB{nodes: down, down: true}), 200, `{"writable":false,"nodes":[{"name":"a",`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res := ask(tt.h, get())
			body := read(t, res)
			if res.StatusCode != tt.status || !strings.HasPrefix(body, tt.body) {
				t.Errorf("the response is %d %q, want %d %q", res.StatusCode, body, tt.status, tt.body)
			}
			if res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("Content-Type") != "application/json" {
				t.Errorf("the header is %v, want JSON that is not stored", res.Header)
			}
			for _, secret := range []string{"hunter2", "10.0.0.7", "app@"} {
				if strings.Contains(body, secret) {
					t.Errorf("the response %q tells %q", body, secret)
				}
			}
		})
	}
}

func TestReadOnlyMode(t *testing.T) {
	db := &fakeDB{}
	h := readOnlyMode(db.Writable, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }))
	m := newTest(t, Options{Routes: []Route{{Pattern: "/search", Use: "replica"}, {Pattern: "/admin/*", Use: "primary"}}})
	wrapped := m.Wrap(h)
	for _, tt := range []struct {
		name           string
		h              http.Handler
		method, target string
		down           bool
		want           int
	}{
		{"GET", h, "GET", "/", true, 202},
		{"HEAD", h, "HEAD", "/", true, 202},
		{"POST", h, "POST", "/", true, 503},
		{"DELETE", h, "DELETE", "/", true, 503},
		{"POST that may", h, "POST", "/", false, 202},
		{"GET below a middleware", wrapped, "GET", "/", true, 202},
		{"POST below a middleware", wrapped, "POST", "/", true, 503},
		{"POST that reads", wrapped, "POST", "/search", true, 202},
		{"GET that may write", wrapped, "GET", "/admin/x", true, 503},
		{"wrapper", UseReplica(h), "POST", "/", true, 202},
	} {
		db.down = tt.down
		res := ask(tt.h, httptest.NewRequest(tt.method, tt.target, nil))
		if res.StatusCode != tt.want || (res.Header.Get("Retry-After") != "") != (tt.want == 503) {
			t.Errorf("%s: the response is %d %v, want %d", tt.name, res.StatusCode, res.Header, tt.want)
		}
	}
}

func TestWritable(t *testing.T) {
	m := newTest(t, Options{})
	db := m.db.(*fakeDB)
	for _, down := range []bool{false, true} {
		db.down = down
		serve(m, get(), func(_ http.ResponseWriter, r *http.Request) {
			if got := Writable(r.Context()); got == down {
				t.Errorf("Writable is %v, want %v", got, !down)
			}
		})
	}
	if Writable(t.Context()) {
		t.Error("Writable is true outside a request")
	}
}
