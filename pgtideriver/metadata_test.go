package pgtideriver

import (
	"encoding/base64"
	"encoding/binary"
	"testing"

	"github.com/riverqueue/river/rivertype"

	"github.com/pgtide/pgtide"
)

const home, abroad = 7, 8 // system identifiers of two clusters

// newToken makes the token of position 0/64 on timeline 1, in the text form of
// pgtide.Token.
func newToken(t *testing.T, cluster uint64) (token pgtide.Token) {
	t.Helper()
	b := []byte{1, 0}
	b = binary.BigEndian.AppendUint64(b, cluster)
	b = binary.BigEndian.AppendUint32(b, 1)
	b = binary.BigEndian.AppendUint64(b, 100)
	b = binary.BigEndian.AppendUint32(b, 0)
	if err := token.UnmarshalText([]byte(base64.RawURLEncoding.EncodeToString(b))); err != nil {
		t.Fatalf("make a token: %v", err)
	}
	return token
}

func TestMetadata(t *testing.T) {
	token := newToken(t, home)
	text, err := token.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	with := func(rest string) string { return `{"pgtide":{"token":"` + string(text) + `"` + rest }
	whole := carried{Token: token}
	for _, tt := range []struct {
		name, metadata string
		fetched        int
		want           carried
	}{
		{"none", ``, 1, carried{}},
		{"no object", `[1]`, 1, carried{}},
		{"null", `null`, 1, carried{}},
		{"of others", `{"a":1}`, 1, carried{}},
		{"no object under the key", `{"pgtide":7}`, 1, carried{}},
		{"a bad token", `{"pgtide":{"token":"x"}}`, 1, carried{}},
		{"a token of another cluster", string(write(nil, carried{Token: newToken(t, abroad)})), 1, carried{}},
		{"what is written", string(write(nil, whole)), 1, whole},
		{"beside others", string(write([]byte(`{"a":1}`), whole)), 1, whole},
		{"fetched before", with(`}}`), 2, carried{}},
		{"fetched nobody knows how often", with(`}}`), 0, carried{}},
		{"snoozed by the middleware", with(`,"fetched":3,"snoozes":1}}`), 4, carried{Token: token, Fetched: 3, Snoozes: 1}},
		{"and fetched since", with(`,"fetched":3,"snoozes":1}}`), 5, carried{Fetched: 3, Snoozes: 1}},
	} {
		if got := read(&rivertype.JobRow{Metadata: []byte(tt.metadata), AttemptedBy: make([]string, tt.fetched)}, home); got != tt.want {
			t.Errorf("%s: read %+v, want %+v", tt.name, got, tt.want)
		}
	}
	for in, want := range map[string]string{
		``:                       with(`}}`),
		`{}`:                     with(`}}`),
		`{"z":{"y":[1, 2]}}`:     with(`},"z":{"y":[1,2]}}`),
		`{"pgtide":{"token":7}}`: with(`}}`),
		`null`:                   `null`,
		`[1]`:                    `[1]`,
		`{`:                      `{`,
	} {
		if got := string(write([]byte(in), carried{Token: token})); got != want {
			t.Errorf("write into %s: %s, want %s", in, got, want)
		}
	}
	for in, want := range map[string]string{
		``:                               ``,
		`{"a": 1}`:                       `{"a": 1}`,
		`{"pgtide":{},"z":{"y":[1, 2]}}`: `{"z":{"y":[1,2]}}`,
		`{`:                              `{`,
	} {
		if got := string(write([]byte(in), carried{})); got != want {
			t.Errorf("write nothing into %s: %s, want %s", in, got, want)
		}
	}
}
