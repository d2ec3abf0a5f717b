package route

import (
	"bufio"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgtide/pgtide/internal/topology"
)

// now is the time of every decision in a scenario.
const now = time.Hour

// The files in testdata say what goes where. A line that begins with "view"
// starts a view; the indented lines below it are its nodes, with a role, a
// position and what else is so:
//
//	view
//	  a primary 1:100
//	  b replica 1:90 staleness=50ms delay=10ms
//	  c replica 1:90 down
//	  d subscriber 1:90
//	  floor 3 1:80             writes counted up to 3 are covered by this
//	  history 1>2@400          timeline 2 left timeline 1 there
//
// Any other line is a request in that view, and the line after it, which
// begins with "->", the decision. Where several nodes may be chosen all of them
// are named. A "#" begins a comment.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v, %v", files, err)
	}
	told := map[Reason]bool{}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			requests := 0
			for _, s := range readScenarios(t, file) {
				requests++
				got, reason := s.decide()
				told[reason] = true
				if got != s.want {
					t.Errorf("%s:%d: %s\n got -> %s\nwant -> %s", file, s.line, s.text, got, s.want)
				}
			}
			if requests == 0 {
				t.Error("the file holds no request")
			}
		})
	}
	for r := ReasonNone + 1; int(r) < Reasons; r++ {
		if r != Pinned && r != Shadow && !told[r] { // these two are not Decide's
			t.Errorf("no scenario ends with reason %v", r)
		}
	}
}

type scenario struct {
	file    string
	line    int
	text    string
	view    *topology.View
	load    loads
	request Request
	want    string
}

type loads []int64

func (l loads) InFlight(i int) int64 { return l[i] }

// decide returns all that may be decided, over many random numbers.
func (s *scenario) decide() (string, Reason) {
	nodes, texts := map[string]bool{}, map[string]bool{}
	rng := rand.New(rand.NewPCG(1, 2))
	var d Decision
	for turn := range 200 {
		r := s.request
		r.Random, r.Turn = rng.Uint64(), r.Turn+uint64(turn)
		d = Decide(s.view, &r, s.load, now)
		switch d.Action {
		case Go:
			nodes[s.view.Nodes[d.Node].Name] = true
			texts[fmt.Sprintf("go %%s: %v", d.Reason)] = true
		case Wait:
			texts[fmt.Sprintf("wait for %s: %v", s.names(d.Watch), d.Reason)] = true
		case Fail:
			texts[fmt.Sprintf("fail: %v", d.Reason)] = true
		default:
			texts[fmt.Sprintf("action %d", d.Action)] = true
		}
	}
	text := strings.Join(slices.Sorted(maps.Keys(texts)), " or ")
	return strings.ReplaceAll(text, "%s", strings.Join(slices.Sorted(maps.Keys(nodes)), "|")), d.Reason
}

func (s *scenario) names(set uint64) string {
	var names []string
	for i, n := range s.view.Nodes {
		if set&(1<<i) != 0 {
			names = append(names, n.Name)
		}
	}
	return strings.Join(names, ",")
}

func readScenarios(t *testing.T, file string) []*scenario {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var (
		all  []*scenario
		view *viewText
		open *scenario // still without a decision
	)
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		var err error
		switch {
		case words[0] == "view":
			view = newViewText()
		case view == nil:
			err = fmt.Errorf("no view yet")
		case strings.HasPrefix(line, " "):
			err = view.add(words)
		case words[0] == "->":
			if open == nil {
				err = fmt.Errorf("a decision without a request")
				break
			}
			open.want, open = strings.Join(words[1:], " "), nil
		default:
			v, load := view.view()
			open = &scenario{file: file, line: n, text: strings.Join(words, " "), view: v, load: load}
			open.request, err = view.request(words)
			all = append(all, open)
		}
		if err != nil {
			t.Fatalf("%s:%d: %v", file, n, err)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.want == "" {
			t.Fatalf("%s:%d: no decision follows", file, s.line)
		}
	}
	return all
}

// viewText is a view being read.
type viewText struct {
	v    topology.View
	load loads
}

func newViewText() *viewText {
	return &viewText{v: topology.View{Primary: topology.NoNode}}
}

func (x *viewText) view() (*topology.View, loads) {
	v := x.v
	v.Nodes = slices.Clone(v.Nodes)
	for i, n := range v.Nodes {
		v.Timeline = max(v.Timeline, n.Position.Timeline)
		if n.State == topology.Up && n.Role == topology.Primary && !v.SplitBrain {
			v.Primary, v.Newest = i, n.Position
		}
	}
	v.Arrange()
	return &v, x.load
}

func (x *viewText) node(name string) (int, error) {
	i := slices.IndexFunc(x.v.Nodes, func(n topology.Node) bool { return n.Name == name })
	if i < 0 {
		return 0, fmt.Errorf("no node is called %q", name)
	}
	return i, nil
}

// set reads names with commas between them.
func (x *viewText) set(names string) (set uint64, err error) {
	for name := range strings.SplitSeq(names, ",") {
		i, err := x.node(name)
		if err != nil {
			return 0, err
		}
		set |= bit(i)
	}
	return set, nil
}

func (x *viewText) add(words []string) (err error) {
	switch words[0] {
	case "split-brain":
		x.v.SplitBrain = true
		return nil
	case "floor":
		if x.v.Floor.Writes, err = strconv.ParseUint(words[1], 10, 64); err == nil {
			x.v.Floor.Position, err = parsePosition(words[2])
		}
		return err
	case "history":
		var s topology.Switch
		if _, err = fmt.Sscanf(words[1], "%d>%d@%d", &s.From, &s.To, &s.At); err == nil {
			x.v.History = x.v.History.With(s)
		}
		return err
	}
	n := topology.Node{Member: topology.Member{Name: words[0]}, State: topology.Up, Incarnation: 1, Fresh: now, FreshKnown: true, Share: 1}
	var load int64
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "primary":
			n.Role = topology.Primary
		case "replica":
			n.Role = topology.Replica
		case "subscriber":
			n.Role = topology.Subscriber
		case "down":
			n.State = topology.Down
		case "unseen":
			n.State = topology.Unseen
		case "foreign":
			n.State = topology.Foreign
		case "paused":
			n.Paused = true
		case "far":
			n.Far = true
		case "held":
			n.Held = true
		case "ejected":
			n.Ejected = true
		case "share":
			n.Share, err = strconv.ParseFloat(value, 64)
		case "latency":
			n.Latency, err = time.ParseDuration(value)
		case "owes":
			n.Owes, err = parsePosition(value)
		case "delay":
			n.Delay, err = time.ParseDuration(value)
		case "load":
			load, err = strconv.ParseInt(value, 10, 64)
		case "run":
			n.Incarnation, err = strconv.ParseInt(value, 10, 64)
		case "staleness":
			if value == "unknown" {
				n.FreshKnown = false
				break
			}
			var d time.Duration
			d, err = time.ParseDuration(value)
			n.Fresh = now - d
		default:
			n.Position, err = parsePosition(w)
		}
		if err != nil {
			return err
		}
	}
	x.v.Nodes, x.load = append(x.v.Nodes, n), append(x.load, load)
	return nil
}

// parsePosition reads positions with decimal LSNs: easier to compare for people.
func parsePosition(s string) (p topology.Position, err error) {
	_, err = fmt.Sscanf(s, "%d:%d", &p.Timeline, &p.LSN)
	if err != nil {
		err = fmt.Errorf("position %q: %w", s, err)
	}
	return p, err
}

var writes = map[string]Reason{
	"read": ReasonNone, "write": Write, "session-bound": SessionBound,
	"unclassified": Unclassified, "transaction": Transaction, "refused": Refused,
}

var fallbacks = map[string]Fallback{"others": Others, "primary": ThePrimary, "nobody": Nobody}

var levels = map[string]Level{
	"eventual": Eventual, "bounded": Bounded, "read-your-writes": ReadYourWrites, "session": Session, "strong": Primary,
}

func (x *viewText) request(words []string) (r Request, err error) {
	write, ok := writes[words[0]]
	if !ok {
		return r, fmt.Errorf("a request cannot begin with %q", words[0])
	}
	r = Request{Write: write, Level: ReadYourWrites, Last: topology.NoNode}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "on-primary":
			r.Target = ToPrimary
		case "on-replica":
			r.Target = ToReplica
		case "on":
			r.Target = ToNode
			r.Node, err = x.node(value)
		case "need":
			r.Need, err = parsePosition(value)
		case "prior":
			r.Prior, err = parsePosition(value)
		case "writes":
			r.Writes, err = strconv.ParseUint(value, 10, 64)
		case "last":
			r.Last, err = x.node(value)
		case "only":
			r.Only = 1
			r.Last, err = x.node(value)
		case "scattered":
			r.Scattered = true
		case "max":
			r.MaxStaleness, err = time.ParseDuration(value)
		case "lag":
			r.MaxLag, err = strconv.ParseUint(value, 10, 64)
		case "trial":
			r.Trial = true
		case "round-robin":
			r.Policy = RoundRobin
		case "wait":
			r.WaitLeft, err = time.ParseDuration(value)
		case "waited":
			r.HasWaited = true
		case "tried":
			r.Tried, err = x.set(value)
		case "group":
			r.Group, err = x.set(value)
		case "fit":
			r.Fit, err = x.set(value)
		case "else":
			if r.Fallback, ok = fallbacks[value]; !ok {
				err = fmt.Errorf("no fallback is called %q", value)
			}
		default:
			if r.Level, ok = levels[w]; !ok {
				err = fmt.Errorf("%q says nothing of a request", w)
			}
		}
		if err != nil {
			return r, err
		}
	}
	return r, nil
}
