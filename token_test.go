package pgtide

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/pgtide/pgtide/internal/topology"
)

func at(timeline uint32, lsn topology.LSN) topology.Position {
	return topology.Position{Timeline: timeline, LSN: lsn}
}

// sampleTokens are tokens of every shape.
func sampleTokens() []Token {
	return []Token{
		{},
		{systemID: 7, need: at(1, 100)},
		{systemID: 7, need: at(1, 0)},
		{systemID: 7, need: at(3, 0x16_B374D848), last: hashName("b")},
		{systemID: 7, need: at(3, 500), prior: at(2, 900)},
		{systemID: 7, unplaced: true},
		{systemID: 7, need: at(1, 100), unplaced: true, last: 1},
		{systemID: 7, last: 5, run: 6},
		{systemID: 7, need: at(3, 500), prior: at(2, 900), last: 5, run: 6},
		{systemID: ^uint64(0), need: at(^uint32(0), ^topology.LSN(0)), prior: at(^uint32(0)-1, ^topology.LSN(0)), unplaced: true, last: ^uint32(0)},
	}
}

func TestTokenCovers(t *testing.T) {
	for _, token := range sampleTokens() {
		known := !token.unplaced && token.run == 0
		if got := token.Covers(token); got != known {
			t.Errorf("%v covers itself: %v, want %v", token, got, known)
		}
		if !token.Covers(Token{}) || !known && (Token{}).Covers(token) {
			t.Errorf("%v does not cover the zero Token, or is covered by it", token)
		}
	}
	low, high := Token{systemID: 7, need: at(1, 100)}, Token{systemID: 7, need: at(1, 200)}
	open, other := Token{systemID: 7, need: at(1, 200), unplaced: true}, Token{systemID: 8, need: at(1, 100)}
	for _, tt := range []struct {
		t, u Token
		want bool
	}{{high, low, true}, {low, high, false}, {open, high, true}, {high, open, false}, {high, other, false}, {Token{}, low, false}} {
		if got := tt.t.Covers(tt.u); got != tt.want {
			t.Errorf("%v covers %v: %v, want %v", tt.t, tt.u, got, tt.want)
		}
	}
}

func TestTokenText(t *testing.T) {
	for _, token := range sampleTokens() {
		text, err := token.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		if token.IsZero() != (len(text) == 0) {
			t.Errorf("the text of %v is %q", token, text)
		}
		if bytes.ContainsAny(text, "+/= \n") {
			t.Errorf("the text of %v, %q, is not fit for a URL", token, text)
		}
		var got Token
		if err := got.UnmarshalText(text); err != nil || got != token {
			t.Errorf("%v comes back from %q as %v, %v", token, text, got, err)
		}
	}
}

func TestTokenJSON(t *testing.T) {
	type job struct {
		Token Token  `json:"token"`
		Task  string `json:"task"`
	}
	for _, token := range sampleTokens() {
		text, err := json.Marshal(job{token, "mail"})
		if err != nil {
			t.Fatal(err)
		}
		got := job{Token: Token{systemID: 1, need: at(9, 9)}} // must be overwritten
		if err := json.Unmarshal(text, &got); err != nil || got.Token != token || got.Task != "mail" {
			t.Errorf("%v comes back from %s as %v, %v", token, text, got.Token, err)
		}
	}
	if text, err := json.Marshal(job{}); err != nil || string(text) != `{"token":"","task":""}` {
		t.Errorf("a job without a token is %s, %v", text, err)
	}
}

func TestBadTokenText(t *testing.T) {
	text := func(change func([]byte) []byte) string {
		b := Token{systemID: 7, need: at(3, 500), prior: at(2, 900)}.appendBinary(nil)
		return base64.RawURLEncoding.EncodeToString(change(b))
	}
	for what, bad := range map[string]string{
		"not base64":                   "not a token!",
		"padded":                       text(func(b []byte) []byte { return b }) + "=",
		"standard base64":              "//////////////////////////////////8",
		"bits past the end":            text(func(b []byte) []byte { return b })[:50] + "_",
		"nothing inside":               "\n",
		"too short":                    text(func(b []byte) []byte { return b[:tokenSize-1] }),
		"too long":                     text(func(b []byte) []byte { return append(b, 0) }),
		"far too long":                 string(bytes.Repeat([]byte("A"), 10_000)),
		"prior without its flag":       text(func(b []byte) []byte { b[1] = 0; return b }),
		"flag without prior":           text(func(b []byte) []byte { return b[:tokenSize] }),
		"an unknown flag":              text(func(b []byte) []byte { b[1] |= 8; return b }),
		"a run without its flag":       text(func(b []byte) []byte { return append(b, 0, 0, 0, 1) }),
		"a flag without a run":         text(func(b []byte) []byte { b[1] |= flagRun; return b }),
		"a run of no node":             text(func(b []byte) []byte { b[1] |= flagRun; return append(b, 0, 0, 0, 1) }),
		"version 0":                    text(func(b []byte) []byte { b[0] = 0; return b }),
		"version 2":                    text(func(b []byte) []byte { b[0] = 2; return b }),
		"an LSN without a timeline":    text(func(b []byte) []byte { clear(b[10:14]); return b }),
		"prior on the same timeline":   text(func(b []byte) []byte { b[29] = 3; return b }),
		"prior on a newer timeline":    text(func(b []byte) []byte { b[29] = 4; return b }),
		"prior and no position at all": text(func(b []byte) []byte { clear(b[10:22]); return b }),
	} {
		got := Token{systemID: 1, need: at(1, 1)}
		if err := got.UnmarshalText([]byte(bad)); !errors.Is(err, ErrBadToken) || !got.IsZero() {
			t.Errorf("%s: UnmarshalText gives %v, %v, want the zero token and ErrBadToken", what, got, err)
		}
	}
}

func FuzzTokenText(f *testing.F) {
	for _, token := range sampleTokens() {
		text, _ := token.MarshalText()
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var token Token
		if err := token.UnmarshalText(text); err != nil {
			if !errors.Is(err, ErrBadToken) || token != (Token{}) {
				t.Fatalf("%q is refused with token %v, %v", text, token, err)
			}
			return
		}
		again, err := token.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var same Token
		if err := same.UnmarshalText(again); err != nil || !same.Equal(token) && !token.IsZero() {
			t.Fatalf("%q is %+v, which comes back as %+v, %v", text, token, same, err)
		}
	})
}

func TestTokenForPeople(t *testing.T) {
	for _, c := range []struct {
		token Token
		want  string
	}{
		{Token{}, "no token"},
		{Token{systemID: 7, need: at(3, 0x16_B374D848)}, "3:16/B374D848"},
		{Token{systemID: 7, need: at(3, 0x16_B374D848), unplaced: true}, "3:16/B374D848+"},
	} {
		if got := c.token.String(); got != c.want {
			t.Errorf("String() = %q, want %q", got, c.want)
		}
	}
	token := Token{systemID: 7, need: at(3, 0x16_B374D848)}
	if token.SystemID() != 7 || token.Timeline() != 3 || token.LSN() != "16/B374D848" {
		t.Errorf("the parts are %d, %d, %s", token.SystemID(), token.Timeline(), token.LSN())
	}
}

// randomToken returns one of few, so that tokens collide.
func randomToken(rng *rand.Rand) Token {
	if rng.IntN(8) == 0 {
		return Token{}
	}
	t := Token{systemID: 7, unplaced: rng.IntN(3) == 0, last: uint32(rng.IntN(3))}
	if rng.IntN(6) > 0 {
		t.need = at(uint32(1+rng.IntN(4)), topology.LSN(rng.IntN(5)))
		if t.need.Timeline > 1 && rng.IntN(2) == 0 {
			t.prior = at(uint32(1+rng.IntN(int(t.need.Timeline)-1)), topology.LSN(rng.IntN(5)))
		}
	}
	if !t.unplaced && t.last != 0 {
		t.run = uint32(rng.IntN(3))
	}
	if t.IsZero() {
		return Token{}
	}
	return t
}

// asks reports whether t asks for at least p, as far as two positions can tell:
// of three timelines the oldest is given up.
func asks(t Token, p topology.Position) bool {
	switch {
	case p.IsZero() || p.Timeline < t.prior.Timeline:
		return true
	case p.Timeline == t.need.Timeline:
		return p.LSN <= t.need.LSN
	case p.Timeline == t.prior.Timeline:
		return p.LSN <= t.prior.LSN
	}
	return false
}

func TestMergeLaws(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 100_000 {
		a, b, c := randomToken(rng), randomToken(rng), randomToken(rng)
		ab := a.Merge(b)
		if ba := b.Merge(a); !ab.Equal(ba) {
			t.Fatalf("seed %d: %+v merged with %+v is %+v, the other way round %+v", seed, a, b, ab, ba)
		}
		if left, right := ab.Merge(c), a.Merge(b.Merge(c)); !left.Equal(right) {
			t.Fatalf("seed %d: %+v, %+v and %+v merge to %+v or to %+v", seed, a, b, c, left, right)
		}
		if aa := a.Merge(a); aa != a {
			t.Fatalf("seed %d: %+v merged with itself is %+v", seed, a, aa)
		}
		if again := ab.Merge(a); !again.Equal(ab) {
			t.Fatalf("seed %d: %+v merged with a part of it, %+v, is %+v", seed, ab, a, again)
		}
		for _, part := range []Token{a, b} {
			if !asks(ab, part.need) || !asks(ab, part.prior) || part.unplaced && !ab.unplaced || part.run != 0 && !ab.unplaced && (ab.run != part.run || ab.last != part.last) {
				t.Fatalf("seed %d: %+v merged with %+v is %+v, which asks for less", seed, a, b, ab)
			}
		}
		if !ab.prior.IsZero() && ab.prior.Timeline >= ab.need.Timeline {
			t.Fatalf("seed %d: %+v merged with %+v is %+v: its older position is not older", seed, a, b, ab)
		}
		text, _ := ab.MarshalText()
		var back Token
		if err := back.UnmarshalText(text); err != nil || back != ab {
			t.Fatalf("seed %d: %+v comes back as %+v, %v", seed, ab, back, err)
		}
	}
}

func TestMergeOfTwoClusters(t *testing.T) {
	a, b := Token{systemID: 7, need: at(1, 100)}, Token{systemID: 8, need: at(9, 900)}
	if got := a.Merge(b); got != a {
		t.Errorf("a token merged with one of another cluster is %+v, want it unchanged", got)
	}
	if got := (Token{}).Merge(b); got != b {
		t.Errorf("no token merged with %+v is %+v", b, got)
	}
}

// The hint is that of the newer token.
func TestMergeKeepsTheNewerHint(t *testing.T) {
	old, young := Token{systemID: 7, need: at(1, 100), last: 1}, Token{systemID: 7, need: at(1, 200), last: 2}
	for _, got := range []Token{old.Merge(young), young.Merge(old)} {
		if got.last != 2 {
			t.Errorf("the hint is %d, want 2", got.last)
		}
	}
	young.last = 0
	if got := young.Merge(old); got.last != 1 {
		t.Errorf("the hint is %d, want 1: the newer token has none", got.last)
	}
	if !old.Equal(Token{systemID: 7, need: at(1, 100), last: 9}) || old.Equal(young) {
		t.Error("Equal must look at all but the hint")
	}
}
