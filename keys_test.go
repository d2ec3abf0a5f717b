package pgtide

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"
)

func testKeys(t testing.TB, letters string) *Keys {
	t.Helper()
	var keys [][]byte
	for _, l := range letters {
		keys = append(keys, bytes.Repeat([]byte{byte(l)}, 32))
	}
	k, err := NewKeys(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var issued = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

func TestSignedTokens(t *testing.T) {
	k := testKeys(t, "a")
	for _, token := range sampleTokens() {
		text := k.Sign(token, issued)
		if len(text) > 83 || strings.ContainsAny(text, "+/= ") {
			t.Errorf("%v is signed as %q, want at most 83 characters fit for a URL", token, text)
		}
		if token.IsZero() != (text == "") {
			t.Errorf("%v is signed as %q", token, text)
		}
		got, err := k.Verify(text, issued.Add(time.Minute), time.Hour)
		if err != nil || got != token {
			t.Errorf("%v comes back as %v, %v", token, got, err)
		}
	}
}

func TestTokensExpire(t *testing.T) {
	k := testKeys(t, "a")
	text := k.Sign(sampleTokens()[1], issued)
	for _, c := range []struct {
		age, limit time.Duration
		ok         bool
	}{
		{0, time.Hour, true},
		{time.Hour, time.Hour, true},
		{time.Hour + time.Second, time.Hour, false},
		{-time.Hour, time.Hour, true}, // another machine's clock is ahead
		{1e5 * time.Hour, 0, true},
	} {
		token, err := k.Verify(text, issued.Add(c.age), c.limit)
		if c.ok && err != nil || !c.ok && (!errors.Is(err, ErrBadToken) || !token.IsZero()) {
			t.Errorf("%v old with a limit of %v: %v, %v", c.age, c.limit, token, err)
		}
	}
}

func TestKeysRotate(t *testing.T) {
	token := sampleTokens()[3]
	old, both, young := testKeys(t, "a"), testKeys(t, "ba"), testKeys(t, "b")
	for _, c := range []struct {
		what         string
		sign, verify *Keys
		ok           bool
	}{
		{"the old key's, by the old", old, old, true},
		{"the old key's, by both", old, both, true},
		{"the old key's, by the new", old, young, false},
		{"both keys', by the new", both, young, true},
		{"both keys', by the old", both, old, false},
	} {
		got, err := c.verify.Verify(c.sign.Sign(token, issued), issued, time.Hour)
		if c.ok && (err != nil || got != token) || !c.ok && (!errors.Is(err, ErrBadToken) || !got.IsZero()) {
			t.Errorf("%s: %v, %v", c.what, got, err)
		}
	}
}

func TestTamperedTokens(t *testing.T) {
	k := testKeys(t, "a")
	for _, token := range sampleTokens()[1:] {
		text := k.Sign(token, issued)
		for i := range text {
			for _, c := range []byte("A9-_z=.\x00") {
				if text[i] == c {
					continue
				}
				bad := text[:i] + string(c) + text[i+1:]
				if got, err := k.Verify(bad, issued, 0); !errors.Is(err, ErrBadToken) || !got.IsZero() {
					t.Fatalf("%v with character %d made %q: %v, %v", token, i, c, got, err)
				}
			}
		}
		b, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		for i := range b {
			for flip := byte(1); flip != 0; flip <<= 1 {
				b[i] ^= flip
				if got, err := k.Verify(base64.RawURLEncoding.EncodeToString(b), issued, 0); !errors.Is(err, ErrBadToken) || !got.IsZero() {
					t.Fatalf("%v with bit %b of byte %d flipped: %v, %v", token, flip, i, got, err)
				}
				b[i] ^= flip
			}
		}
		for n := 1; n < len(text); n++ {
			if _, err := k.Verify(text[:n], issued, 0); !errors.Is(err, ErrBadToken) {
				t.Fatalf("%v cut to %d characters: %v", token, n, err)
			}
		}
		for _, bad := range []string{text + "A", text + text, strings.Repeat("A", 79), strings.Repeat("A", 1<<20)} {
			_, err := k.Verify(bad, issued, 0)
			if !errors.Is(err, ErrBadToken) {
				t.Fatalf("%d characters: %v", len(bad), err)
			}
			if strings.Contains(err.Error(), "AAAA") || len(err.Error()) > 200 {
				t.Fatalf("the error repeats the text: %v", err)
			}
		}
	}
	unsigned, err := sampleTokens()[1].MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Verify(string(unsigned), issued, 0); !errors.Is(err, ErrBadToken) {
		t.Errorf("a token without a signature: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	k := testKeys(f, "ab")
	for _, token := range sampleTokens() {
		f.Add(testKeys(f, "c").Sign(token, issued))
	}
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := k.Verify(text, issued, time.Hour); !got.IsZero() || text != "" && !errors.Is(err, ErrBadToken) {
			t.Fatalf("%q, which nobody signed: %v, %v", text, got, err)
		}
	})
}

func TestNewKeys(t *testing.T) {
	if _, err := NewKeys(); err == nil {
		t.Error("no key at all is accepted")
	}
	if _, err := NewKeys(bytes.Repeat([]byte("s"), 32), []byte("short secret")); err == nil || !strings.Contains(err.Error(), "key 2") || strings.Contains(err.Error(), "secret") {
		t.Errorf("a short key: %v, want an error that tells which one and not its bytes", err)
	}
	key := bytes.Repeat([]byte("s"), MinKeySize)
	k, err := NewKeys(key)
	if err != nil {
		t.Fatal(err)
	}
	text := k.Sign(sampleTokens()[1], issued)
	clear(key) // the caller's own
	if _, err := k.Verify(text, issued, 0); err != nil {
		t.Errorf("keys change with the caller's slice: %v", err)
	}
}
