package pgtidehttp

import (
	"encoding/json"
	"net/http"

	"github.com/pgtide/pgtide"
)

// Live returns a handler that answers 200 for as long as the process serves: what
// an orchestrator asks before it restarts one. It looks at no server, for no
// restart mends those.
func Live() http.Handler {
	return health(func() (int, any) { return http.StatusOK, map[string]bool{"live": true} })
}

// observer is what the handlers below ask of a [pgtide.DB].
type observer interface {
	Nodes() []pgtide.NodeStatus
	Writable() bool
}

// Ready returns a handler that answers 200 while at least one node of db is up,
// and else 503: what a load balancer asks. "writable" in its JSON says whether
// writes are accepted; a service that can do nothing without them looks at that.
// It makes no query.
func Ready(db *pgtide.DB) http.Handler { return ready(db) }

func ready(db observer) http.Handler {
	return health(func() (int, any) {
		status := http.StatusServiceUnavailable
		for _, n := range db.Nodes() {
			if n.State == "up" {
				status = http.StatusOK
			}
		}
		return status, map[string]bool{"ready": status == http.StatusOK, "writable": db.Writable()}
	})
}

// Status returns a handler that answers with the status of all nodes of db as
// JSON: {"writable": true, "nodes": [...]}, each of them a [pgtide.NodeStatus]
// without its error, which may name hosts and users. Names of nodes are shown:
// where [pgtide.Options.DSN] has made them, they are hosts. It makes no query and
// always answers 200.
func Status(db *pgtide.DB) http.Handler { return status(db) }

func status(db observer) http.Handler {
	return health(func() (int, any) {
		nodes := db.Nodes()
		for i := range nodes {
			nodes[i].Err = ""
		}
		return http.StatusOK, struct {
			Writable bool                `json:"writable"`
			Nodes    []pgtide.NodeStatus `json:"nodes"`
		}{db.Writable(), nodes}
	})
}

func health(look func() (status int, body any)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		status, body := look()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body) // the client may be gone
	})
}
