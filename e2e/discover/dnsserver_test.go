package discover_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// dnsServer answers on a loopback port, over UDP and TCP, from what is set.
type dnsServer struct {
	udp net.PacketConn
	tcp net.Listener

	mu      sync.Mutex // guards the fields below
	records map[question][]dnsmessage.ResourceBody
	status  map[question]dnsmessage.RCode
	silent  bool
}

type question struct {
	name string // ends with a dot
	kind dnsmessage.Type
}

// newDNS starts a server that ends with the test. It knows no name yet.
func newDNS(t *testing.T) *dnsServer {
	t.Helper()
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp4", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s := &dnsServer{udp: udp, tcp: tcp, records: map[question][]dnsmessage.ResourceBody{}, status: map[question]dnsmessage.RCode{}}
	var group sync.WaitGroup
	group.Go(s.serveUDP)
	group.Go(s.serveTCP)
	t.Cleanup(func() {
		udp.Close()
		tcp.Close()
		group.Wait()
	})
	return s
}

// resolver asks s and nobody else.
func (s *dnsServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, s.tcp.Addr().String())
	}}
}

func (s *dnsServer) set(name string, kind dnsmessage.Type, records ...dnsmessage.ResourceBody) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records[question{name, kind}] = records
}

func (s *dnsServer) refuse(name string, kind dnsmessage.Type, status dnsmessage.RCode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status[question{name, kind}] = status
}

func (s *dnsServer) hush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = true
}

func a(address string) dnsmessage.ResourceBody {
	return &dnsmessage.AResource{A: netip.MustParseAddr(address).As4()}
}

func aaaa(address string) dnsmessage.ResourceBody {
	return &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(address).As16()}
}

func srv(priority, weight, port uint16, target string) dnsmessage.ResourceBody {
	return &dnsmessage.SRVResource{Priority: priority, Weight: weight, Port: port, Target: dnsmessage.MustNewName(target)}
}

// udpLimit is what resolvers announce today; longer answers go over TCP.
const udpLimit = 1232

func (s *dnsServer) serveUDP() {
	buffer := make([]byte, 4096)
	for {
		n, from, err := s.udp.ReadFrom(buffer)
		if err != nil {
			return
		}
		if reply := s.reply(buffer[:n], udpLimit); reply != nil {
			s.udp.WriteTo(reply, from)
		}
	}
}

func (s *dnsServer) serveTCP() {
	for {
		conn, err := s.tcp.Accept()
		if err != nil {
			return
		}
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err == nil {
			query := make([]byte, binary.BigEndian.Uint16(length[:]))
			if _, err := io.ReadFull(conn, query); err == nil {
				if reply := s.reply(query, 1<<16-1); reply != nil {
					conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
				}
			}
		}
		conn.Close()
	}
}

// reply answers a query, cut short if it does not fit; nil is no answer.
func (s *dnsServer) reply(query []byte, limit int) []byte {
	var in dnsmessage.Message
	if err := in.Unpack(query); err != nil || len(in.Questions) != 1 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.silent {
		return nil
	}
	asked := question{in.Questions[0].Name.String(), in.Questions[0].Type}
	out := dnsmessage.Message{Header: dnsmessage.Header{ID: in.ID, Response: true, RecursionAvailable: true, RCode: s.code(asked)}, Questions: in.Questions}
	for _, body := range s.records[asked] {
		header := dnsmessage.ResourceHeader{Name: in.Questions[0].Name, Type: asked.kind, Class: dnsmessage.ClassINET}
		out.Answers = append(out.Answers, dnsmessage.Resource{Header: header, Body: body})
	}
	packed, err := out.Pack()
	if err != nil {
		return nil
	}
	if len(packed) > limit {
		out.Truncated, out.Answers = true, nil
		packed, _ = out.Pack()
	}
	return packed
}

// code says that a name does not exist only if it has no record of any kind.
func (s *dnsServer) code(asked question) dnsmessage.RCode {
	if status, ok := s.status[asked]; ok {
		return status
	}
	for q, records := range s.records {
		if q.name == asked.name && len(records) > 0 {
			return dnsmessage.RCodeSuccess
		}
	}
	return dnsmessage.RCodeNameError
}
