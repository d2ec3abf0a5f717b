package discover_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/discover"
)

// How do I follow a Patroni cluster, and read from what is near?
func ExamplePatroni() {
	// In earnest this is the REST API of two or three members.
	patroni := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"members": [
			{"name": "pg-0", "role": "leader", "state": "running", "host": "10.0.0.1", "port": 5432, "tags": {"zone": "eu-1"}},
			{"name": "pg-1", "role": "replica", "state": "streaming", "host": "10.0.0.2", "port": 5432, "lag": 0, "tags": {"zone": "eu-2"}},
			{"name": "pg-2", "role": "replica", "state": "creating replica", "host": "10.0.0.3", "port": 5432, "lag": "unknown"}]}`)
	}))
	defer patroni.Close()
	options := pgtide.Options{
		Zone: "eu-2",
		Discover: discover.Patroni{
			Endpoints: []string{patroni.URL},
			DSN:       "postgres://app@/shop?sslmode=verify-full",
			Map: func(m discover.Member, n *pgtide.Node) bool {
				n.Zone, _ = m.Tags["zone"].(string)
				return true
			},
		},
	}
	// pgtide.Open(ctx, options) asks this, and again while it runs.
	nodes, err := options.Discover.Discover(context.Background())
	if err != nil {
		log.Print(err)
		return
	}
	for _, n := range nodes {
		fmt.Println(n.Name, "in", n.Zone)
	}
	// Output:
	// pg-0 in eu-1
	// pg-1 in eu-2
}

// How do I follow a headless service, whose certificate is for its name?
func ExampleDNS() {
	service := discover.DNS{
		DSN: "postgres://app@127.0.0.1/shop?sslmode=verify-full", // postgres://app@db.prod.svc.cluster.local/shop
		Map: func(address netip.Addr, n *pgtide.Node) bool {
			n.Groups = []string{"all"}
			return true
		},
	}
	options := pgtide.Options{Discover: service, Configure: service.Configure}
	nodes, err := options.Discover.Discover(context.Background())
	if err != nil {
		log.Print(err)
		return
	}
	for _, n := range nodes {
		fmt.Println(n.Name, n.Groups)
	}
	// Output:
	// 127.0.0.1 [all]
}
