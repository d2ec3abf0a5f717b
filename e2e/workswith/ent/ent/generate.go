// Package ent is the client that ent has generated from the schema beside it.
package ent

//go:generate go run entgo.io/ent/cmd/ent@v0.14.5 generate --feature sql/lock,sql/upsert,sql/execquery ./schema
