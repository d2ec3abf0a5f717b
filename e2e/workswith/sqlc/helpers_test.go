package sqlc

import (
	_ "embed"
	"slices"
	"testing"
)

//go:embed schema.sql
var schema string

// seeds are rows that the replicas have.
const seeds = `
	insert into author (name, bio) values ('Le Guin', 'Earthsea'), ('Lem', null);
	insert into book (author_id, title) select id, 'Solaris' from author where name = 'Lem'`

func equal[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
