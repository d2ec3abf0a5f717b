package discover

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/pgtide/pgtide"
)

// Member is a member of a Patroni cluster, as the cluster reports it. What
// Patroni does not say is zero.
type Member struct {
	Name     string
	Role     string // leader, replica, sync_standby, standby_leader, ...
	State    string // running, streaming, starting, creating replica, ...
	Host     string
	Port     uint16
	Timeline int64
	// Lag is how many bytes it is behind the leader; -1 means unknown.
	Lag int64
	// Tags are those of the member's configuration, as JSON has them: bool,
	// float64, string.
	Tags map[string]any
}

// leader reports whether m is the primary of its cluster, in the words of any
// version. The leader of a standby cluster is none.
func (m Member) leader() bool {
	return m.Role == "leader" || m.Role == "master" || m.Role == "primary"
}

// created reports whether m has a data directory to start a server on.
func (m Member) created() bool {
	switch m.State {
	case "creating replica", "initializing new cluster", "initdb failed",
		"running custom bootstrap script", "custom bootstrap failed":
		return false
	}
	return m.Host != ""
}

// readable reports whether m may be read from. Patroni takes any value of the
// tag but these for yes.
func (m Member) readable() bool {
	switch m.Tags["noloadbalance"] {
	case nil, false, "", 0.0:
		return true
	}
	return m.leader()
}

// UnmarshalJSON reads what any version of Patroni writes.
func (m *Member) UnmarshalJSON(text []byte) error {
	var j struct {
		Name     string          `json:"name"`
		Role     string          `json:"role"`
		State    string          `json:"state"`
		Host     string          `json:"host"`
		Port     uint16          `json:"port"`
		Timeline int64           `json:"timeline"`
		Lag      json.RawMessage `json:"lag"` // a number, "unknown", or not there for the leader
		Tags     map[string]any  `json:"tags"`
	}
	if err := json.Unmarshal(text, &j); err != nil {
		return err
	}
	*m = Member{Name: j.Name, Role: j.Role, State: j.State, Host: j.Host, Port: j.Port, Timeline: j.Timeline, Tags: j.Tags}
	if len(j.Lag) > 0 && json.Unmarshal(j.Lag, &m.Lag) != nil {
		m.Lag = -1
	}
	return nil
}

// parseMembers reads the answer to GET /cluster.
func parseMembers(body []byte) ([]Member, error) {
	var cluster struct {
		Members []Member `json:"members"`
	}
	if err := json.Unmarshal(body, &cluster); err != nil {
		return nil, fmt.Errorf("the answer is not that of Patroni: %w", err)
	}
	if len(cluster.Members) == 0 {
		return nil, errors.New("the answer has no members")
	}
	return cluster.Members, nil
}

// nodes makes nodes of the members that may serve.
func (p Patroni) nodes(t template, members []Member) ([]pgtide.Node, error) {
	if len(members) > pgtide.MaxNodes {
		return nil, errTooMany(len(members), "members")
	}
	port := uint16(defaultPort)
	if all := t.places(); len(all) > 0 {
		port = all[0].port
	}
	var nodes []pgtide.Node
	at := map[place]string{}
	for _, m := range members {
		if !m.created() || !m.readable() {
			continue
		}
		if err := checkHost(m.Host); err != nil {
			return nil, fmt.Errorf("member %.100q: %w", m.Name, err)
		}
		where := place{m.Host, m.Port}
		if where.port == 0 {
			where.port = port
		}
		if other, taken := at[where]; taken {
			return nil, fmt.Errorf("members %.100q and %.100q are both at %s", other, m.Name, where)
		}
		at[where] = m.Name
		n := pgtide.Node{Name: m.Name, DSN: t.at(where)}
		if p.Map == nil || p.Map(m, &n) {
			nodes = append(nodes, n)
		}
	}
	return answer(nodes)
}
