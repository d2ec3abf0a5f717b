package main

import (
	"context"
	"slices"
	"time"
)

// side is one of two ways to do the same.
type side struct {
	name string
	do   func(ctx context.Context) error
}

// samples are what rounds of a comparison gave.
type samples struct{ ours, theirs, ratios []float64 }

// compare times n calls of each side a round, in turn, so that a machine whose
// speed drifts slows both.
func (s *samples) compare(ctx context.Context, rounds, n int, ours, theirs side) error {
	for round := range rounds + 1 {
		first, second := ours, theirs
		if round%2 == 1 {
			first, second = theirs, ours
		}
		x, err := mean(ctx, n, first)
		if err != nil {
			return err
		}
		y, err := mean(ctx, n, second)
		if err != nil {
			return err
		}
		if round%2 == 1 {
			x, y = y, x
		}
		if round == 0 {
			continue // caches and connections are filled by it
		}
		s.ours, s.theirs, s.ratios = append(s.ours, x), append(s.theirs, y), append(s.ratios, x/y)
	}
	return nil
}

func mean(ctx context.Context, n int, s side) (microseconds float64, err error) {
	began := time.Now()
	for range n {
		if err := s.do(ctx); err != nil {
			return 0, err
		}
	}
	return float64(time.Since(began).Nanoseconds()) / float64(n) / 1e3, nil
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if len(v)%2 == 0 {
		return (v[len(v)/2-1] + v[len(v)/2]) / 2
	}
	return v[len(v)/2]
}
