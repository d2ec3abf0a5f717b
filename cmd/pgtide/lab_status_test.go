package main

import (
	"testing"

	"github.com/pgtide/pgtide/lab"
)

func TestStatusTable(t *testing.T) {
	status := lab.Status{Nodes: []lab.NodeStatus{
		{Name: "node1", Role: lab.RolePrimary, State: lab.Running, Port: 20001, Timeline: 1, Position: "0/3000060"},
		{Name: "node2", Role: lab.RolePrimary, State: lab.Running, Port: 20002, Timeline: 2, Position: "0/3000100"},
		{Name: "node3", Role: lab.RoleReplica, State: lab.Running, Port: 20003, Timeline: 2, Position: "0/3000060",
			BytesBehind: 160, ApplyDelayMS: 1500, Paused: true, Streaming: true},
		{Name: "node4", Role: lab.RoleReplica, State: lab.Running, Port: 20004, Timeline: 2, Position: "0/3000060", BytesBehind: 5 << 20, Cut: true},
		{Name: "node5", Role: lab.RoleReplica, State: lab.Running, Port: 20005, Timeline: 2, Position: "0/3000100"},
		{Name: "node6", Role: lab.RoleReplica, State: lab.Running, Port: 20006, BytesBehind: -1, Error: "timeout\nand more"},
		{Name: "node7", Role: lab.RoleReplica, State: lab.Frozen, Port: 20007, BytesBehind: -1},
		{Name: "node8", Role: lab.RoleReplica, State: lab.Running, Port: 20008, Timeline: 2, Position: "0/3000100", Streaming: true, Awaited: true, SyncState: "sync"},
		{Name: "node9", Role: lab.RoleReplica, State: lab.Stopped, Port: 20009, BytesBehind: -1, Awaited: true},
		{Name: "node10", Role: lab.RoleReplica, State: lab.Running, Port: 20010, Timeline: 2, Position: "0/3000100", Streaming: true, SyncState: "potential"},
		{Name: "subscriber1", Role: lab.RoleSubscriber, State: lab.Running, Port: 20011, Position: "0/3000080", BytesBehind: 128, Streaming: true, Source: "node2", Version: "18.4"},
		{Name: "subscriber2", Role: lab.RoleSubscriber, State: lab.Running, Port: 20012, BytesBehind: -1, Paused: true, Source: "node1"},
	}}
	want := `NODE         ROLE        STATE    PORT   TIMELINE  LSN        BEHIND  APPLY DELAY  NOTES
node1        primary     running  20001  1         0/3000060  -       -            overtaken by a promotion
node2        primary     running  20002  2         0/3000100  -       -
node3        replica     running  20003  2         0/3000060  160 B   1.5s         replay paused
node4        replica     running  20004  2         0/3000060  5.0 MB  -            link cut
node5        replica     running  20005  2         0/3000100  0 B     -            not streaming
node6        replica     running  20006  -         -          ?       -            does not answer: timeout
node7        replica     frozen   20007  -         -          ?       -
node8        replica     running  20008  2         0/3000100  0 B     -            synchronous
node9        replica     stopped  20009  -         -          ?       -            synchronous: commits wait for it
node10       replica     running  20010  2         0/3000100  0 B     -            potential
subscriber1  subscriber  running  20011  -         0/3000080  128 B   -            PostgreSQL 18.4
subscriber2  subscriber  running  20012  -         -          ?       -            reads from node1, not the primary: resubscribe it, replay paused
`
	if got := statusTable(status, "node2"); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestBytesText(t *testing.T) {
	for n, want := range map[int64]string{-1: "?", 0: "0 B", 1023: "1023 B", 1536: "1.5 kB", 3 << 20: "3.0 MB", 5 << 30: "5.0 GB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d bytes: got %q, want %q", n, got, want)
		}
	}
}
