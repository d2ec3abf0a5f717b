package pgtideconnect_test

import (
	"context"
	"encoding/base64"
	"log"
	"net/http"
	"os"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtideconnect"
)

// One of several services: what it writes is seen by those that it calls, and
// what they write by itself. Generated code takes the same options.
func Example() {
	db, err := pgtide.Open(context.Background(), pgtide.Options{DSN: os.Getenv("DATABASE_URL")})
	if err != nil {
		log.Fatal(err)
	}
	// The same in all services: openssl rand -base64 32
	secret, err := base64.StdEncoding.DecodeString(os.Getenv("TOKEN_KEY"))
	if err != nil {
		log.Fatal(err)
	}
	keys, err := pgtide.NewKeys(secret)
	if err != nil {
		log.Fatal(err)
	}
	tide := connect.WithInterceptors(pgtideconnect.New(pgtideconnect.Options{Keys: keys}))

	notify := connect.NewClient[wrapperspb.Int64Value, emptypb.Empty](http.DefaultClient, "http://127.0.0.1:8081/mail.v1/Notify", tide)
	const order = "/shop.v1/Order"
	handler := connect.NewUnaryHandler(order, func(ctx context.Context, req *connect.Request[wrapperspb.StringValue]) (*connect.Response[wrapperspb.Int64Value], error) {
		var id wrapperspb.Int64Value
		if err := db.QueryRow(ctx, "insert into purchase (item) values ($1) returning id", req.Msg.Value).Scan(&id.Value); err != nil {
			return nil, err
		}
		// The other service finds the purchase, on whichever replica it looks.
		if _, err := notify.CallUnary(ctx, connect.NewRequest(&id)); err != nil {
			return nil, err
		}
		return connect.NewResponse(&id), nil
	}, tide)
	http.Handle(order, handler)
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", nil))
}
