package main

import (
	"context"
	"database/sql"
	"fmt"
	"testing"

	"gorm.io/gorm"

	"github.com/pgtide/pgtide"
	"github.com/pgtide/pgtide/pgtidetest"
)

// GORM on pgtide keeps what pgtide promises.
func TestConformance(t *testing.T) {
	pgtidetest.Conformance(t, func(t testing.TB, tide *pgtidetest.Tide) pgtidetest.Front {
		g, err := open(tide.Open(pgtide.Options{}))
		if err != nil {
			t.Fatal(err)
		}
		return front{g}
	})
}

// front is GORM as the suite wants it.
type front struct{ *gorm.DB }

func (f front) Session(ctx context.Context, token string) (context.Context, error) {
	var t pgtide.Token
	if token != "" {
		if err := t.UnmarshalText([]byte(token)); err != nil {
			return nil, err
		}
	}
	return pgtide.WithToken(pgtide.WithConsistency(ctx, pgtide.Session), t), nil
}

func (f front) Token(ctx context.Context) (string, error) {
	t, _ := pgtide.TokenFrom(ctx)
	text, err := t.MarshalText()
	return string(text), err
}

func (f front) Exec(ctx context.Context, sql string, args ...any) error {
	return f.WithContext(ctx).Exec(sql, args...).Error
}

func (f front) Query(ctx context.Context, sql string, args ...any) (all [][]string, err error) {
	var rows []map[string]any
	err = f.WithContext(ctx).Raw(sql, args...).Scan(&rows).Error
	for _, row := range rows {
		var values []string
		for _, value := range row { // the suite asks for one column
			values = append(values, fmt.Sprint(value))
		}
		all = append(all, values)
	}
	return all, err
}

func (f front) Tx(ctx context.Context, readOnly bool, do func(context.Context, pgtidetest.Statements) error) error {
	return f.WithContext(ctx).Transaction(func(tx *gorm.DB) error { return do(ctx, front{tx}) }, &sql.TxOptions{ReadOnly: readOnly})
}
