package pgtideredis_test

import (
	"context"
	"log"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtideredis"
)

// A webhook writes for a user who is not there; the user's phone, which carries
// no cookies, reads it through another process.
func Example() {
	ctx := context.Background()
	db, err := pgtide.Open(ctx, pgtide.Options{DSN: os.Getenv("DATABASE_URL")})
	if err != nil {
		log.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: os.Getenv("REDIS_ADDR"), ContextTimeoutEnabled: true})
	store := pgtideredis.New(db, pgtideredis.Options{Client: client})

	webhook := func(ctx context.Context, user string) error {
		ctx = pgtide.NewSession(ctx)
		if _, err := db.Exec(ctx, "update invoice set paid = true where owner = $1", user); err != nil {
			return err
		}
		token, _ := pgtide.TokenFrom(ctx)
		return store.Raise(ctx, user, token, 5*time.Minute)
	}
	phone := func(ctx context.Context, user string) (paid bool, err error) {
		token, err := store.Load(ctx, user)
		if err != nil {
			ctx = pgtide.OnPrimary(ctx) // nobody knows what the user must see
		}
		ctx = pgtide.WithToken(ctx, token)
		err = db.QueryRow(ctx, "select paid from invoice where owner = $1", user).Scan(&paid)
		return paid, err
	}

	if err := webhook(ctx, "user-42"); err != nil {
		log.Fatal(err)
	}
	paid, err := phone(ctx, "user-42")
	log.Println(paid, err)
}
