package discover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// report is what a primary says of itself and of those who follow it.
type report struct {
	timeline  uint32
	sightings []sighting // the primary first
	err       error      // why there are no standbys among them
}

// aboutItself asks a server who it is. pg_walfile_name begins with the timeline.
const aboutItself = `select not pg_is_in_recovery(),
	case when not pg_is_in_recovery() then left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) end,
	current_setting('port')::int, current_setting('cluster_name'), host(inet_server_addr()), current_user::text`

// aboutOthers asks a primary who follows it. A logical subscriber's sender has a
// database; a program that only stores WAL never says what it has replayed.
const aboutOthers = `select coalesce(r.application_name, ''), host(r.client_addr), r.state, coalesce(r.sync_state, ''),
	r.replay_lsn is not null
	from pg_stat_replication r join pg_stat_activity a using (pid) where a.datid is null`

// ask returns the report of the server that dsn leads to, an error unless it is
// a primary.
func (s *Standbys) ask(ctx context.Context, dsn string) (*report, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(s.Timeout, DefaultAskTimeout))
	defer cancel()
	config, err := parseConfig(dsn)
	if err != nil {
		return nil, err
	}
	c := config.ConnConfig
	c.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol // nothing is asked twice on a connection
	c.ValidateConnect = nil                                  // target_session_attrs: a primary is looked for here
	at := place{c.Host, c.Port}
	if s.BeforeConnect != nil {
		if err := s.BeforeConnect(ctx, c); err != nil {
			return nil, fmt.Errorf("prepare to connect to %s: %w", at, err)
		}
	}
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return nil, err // it says where, and neither it nor this knows the password
	}
	// The server is told, if it still listens; nobody waits for it long.
	defer conn.Close(ctx)
	r, err := read(ctx, conn, at)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", at, err)
	}
	return r, nil
}

var errStandby = errors.New("it is a standby")

func read(ctx context.Context, conn *pgx.Conn, at place) (*report, error) {
	var primary bool
	var timeline, address *string
	var port uint16
	var name, role string
	err := conn.QueryRow(ctx, aboutItself).Scan(&primary, &timeline, &port, &name, &address, &role)
	if err != nil {
		return nil, err
	}
	if !primary || timeline == nil {
		return nil, errStandby
	}
	n, err := strconv.ParseUint(*timeline, 16, 32)
	if err != nil {
		return nil, fmt.Errorf("read its timeline: %w", err)
	}
	itself := sighting{at: at, server: Server{Name: name, Address: parseAddr(address), Port: port, Primary: true}}
	r := &report{timeline: uint32(n), sightings: []sighting{itself}}

	rows, err := conn.Query(ctx, aboutOthers)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	hidden := 0
	for rows.Next() {
		var name, sync string
		var address, state *string
		var replays bool
		if err := rows.Scan(&name, &address, &state, &sync, &replays); err != nil {
			return nil, err
		}
		if state == nil {
			hidden++ // a role without rights sees that there is a sender, and nothing of it
			continue
		}
		if !replays || *state != "streaming" && *state != "catchup" {
			continue
		}
		server := Server{Name: name, Address: parseAddr(address), Port: port, State: *state, SyncState: sync}
		g := sighting{server: server, at: place{port: port}}
		if server.Address.IsValid() {
			g.at.host = server.Address.String()
		}
		// A link that broke is reported beside the one that replaced it, until the
		// primary gives it up.
		if !slices.ContainsFunc(r.sightings[1:], g.same) {
			r.sightings = append(r.sightings, g)
		}
	}
	if hidden > 0 {
		r.err = fmt.Errorf("%s: role %q sees that it has %d senders of WAL, but not who follows: grant pg_monitor to it", at, role, hidden)
	}
	return r, rows.Err()
}

func parseAddr(text *string) netip.Addr {
	if text == nil {
		return netip.Addr{}
	}
	a, _ := netip.ParseAddr(*text) // the server wrote it; what is none is the zero Addr
	return a.Unmap()
}
