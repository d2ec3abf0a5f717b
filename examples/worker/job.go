package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/pgtide/pgtide"
)

const schema = `
create table orders (id bigint generated always as identity primary key, item text not null);
create table job (id bigint generated always as identity primary key, payload jsonb not null);
`

// job is what stands in the table.
type job struct {
	Order int64 `json:"order"`
	// Token is what the job must see: all that its author had written.
	Token *pgtide.Token `json:"token,omitempty"`
}

// placeOrder writes an order and adds the job that prints its receipt.
func placeOrder(ctx context.Context, db *pgtide.DB, item string) error {
	var j job
	if err := db.QueryRow(ctx, "insert into orders (item) values ($1) returning id", item).Scan(&j.Order); err != nil {
		return err
	}
	if token, ok := pgtide.TokenFrom(ctx); ok {
		j.Token = &token
	}
	payload, err := json.Marshal(j)
	if err != nil {
		return err
	}
	_, err = db.Exec(ctx, "insert into job (payload) values ($1)", payload)
	return err
}

// work takes the next job and does it.
func work(ctx context.Context, db *pgtide.DB) (receipt string, err error) {
	var payload []byte
	const take = `delete from job where id = (select id from job order by id limit 1 for update skip locked) returning payload`
	if err := db.QueryRow(ctx, take).Scan(&payload); err != nil {
		return "", fmt.Errorf("take a job: %w", err)
	}
	var j job
	if err := json.Unmarshal(payload, &j); err != nil {
		return "", fmt.Errorf("read the job: %w", err)
	}
	ctx = pgtide.NewSession(ctx)
	if j.Token != nil {
		ctx = pgtide.WithToken(ctx, *j.Token)
	}
	var item string
	if err := db.QueryRow(ctx, "select item from orders where id = $1", j.Order).Scan(&item); err != nil {
		return "", fmt.Errorf("read order %d: %w", j.Order, err)
	}
	return fmt.Sprintf("order %d: %s", j.Order, item), nil
}
