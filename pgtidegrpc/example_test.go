package pgtidegrpc_test

import (
	"context"
	"encoding/base64"
	"log"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidegrpc"
)

// One of several services: what it writes is seen by those that it calls, and
// what they write by itself.
func Example() {
	// The same in all services: openssl rand -base64 32
	secret, err := base64.StdEncoding.DecodeString(os.Getenv("TOKEN_KEY"))
	if err != nil {
		log.Fatal(err)
	}
	keys, err := pgtide.NewKeys(secret)
	if err != nil {
		log.Fatal(err)
	}
	tide := pgtidegrpc.New(pgtidegrpc.Options{Keys: keys})

	// As a client: calls within a session carry its token.
	conn, err := grpc.NewClient("127.0.0.1:8081", append(tide.DialOptions(),
		grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	ctx := pgtide.NewSession(context.Background())
	if _, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{}); err != nil {
		log.Print(err)
	}

	// As a server: each RPC is a session, in its handler's context.
	server := grpc.NewServer(tide.ServerOptions()...)
	listener, err := net.Listen("tcp", "127.0.0.1:8080")
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(server.Serve(listener))
}
