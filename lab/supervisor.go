package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// supervisorScript runs a command and ends with it. It reads the pipe on
// descriptor 3, whose other end only this process holds: when that end closes,
// because we closed it or died in whatever way, the command and everything
// below it are killed, frozen or not. The word "detach" ends the watch and
// lets the command run on. Descriptor 4 is the command's standard input: a
// background command would not get descriptor 0.
//
// The immediate shutdown comes first because it lets the server give back its
// shared memory; it is asked for again and again, as a server ignores it in its
// first moments. A postmaster that is stopped before its children are listed
// cannot fork another one meanwhile. The supervisor ends last: it has to reap
// the postmaster, whose pid would else seem to be in use.
const supervisorScript = `
children() {
	if [ -r /proc/self/stat ]; then
		for stat in /proc/[0-9]*/stat; do
			{ read -r line <"$stat"; } 2>/dev/null || continue
			pid=${line%% *}
			rest=${line##*) }
			rest=${rest#* }
			[ "${rest%% *}" = "$1" ] && echo "$pid"
		done
	else
		ps -axo pid=,ppid= | while read -r pid parent; do
			[ "$parent" = "$1" ] && echo "$pid"
		done
	fi
}
"$@" <&4 3<&- 4<&- &
command=$!
{
	while read -r word <&3; do
		[ "$word" = detach ] && exit 0
	done
	kill -CONT $command $(children $command)
	tries=0
	while [ $tries -lt 20 ] && kill -QUIT $command; do
		sleep 0.1
		tries=$((tries + 1))
	done
	kill -STOP $command
	for child in $(children $command); do
		kill -KILL $(children $child) $child
	done
	kill -KILL $command
} 4<&- 2>/dev/null &
watch=$!
exec 3<&- 4<&-
wait $command
code=$?
{ kill -KILL $watch; wait $watch; } 2>/dev/null
exit $code
`

// supervised is a command that does not outlive this process.
type supervised struct {
	pid  int           // the supervisor's
	life *os.File      // our end of the pipe
	done chan struct{} // closed once the command and its supervisor have ended
	err  error         // how it ended, to be read after done
}

// supervise starts a command as the account, with its output in the file.
func supervise(a account, output *os.File, input []byte, argv ...string) (*supervised, error) {
	life, lifeWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer life.Close()
	stdin, err := inputFile(input)
	if err != nil {
		lifeWrite.Close()
		return nil, err
	}
	defer stdin.Close()

	cmd := exec.Command("/bin/sh", append([]string{"-c", supervisorScript, "pgtide-lab"}, argv...)...)
	cmd.Dir = "/" // the caller's folder may be closed to the account
	cmd.Env = serverEnv()
	cmd.Stdout, cmd.Stderr = output, output
	cmd.ExtraFiles = []*os.File{life, stdin}
	cmd.SysProcAttr = processAttr(a)
	if err := cmd.Start(); err != nil {
		lifeWrite.Close()
		return nil, a.explain(argv[0], err)
	}
	s := &supervised{pid: cmd.Process.Pid, life: lifeWrite, done: make(chan struct{})}
	go func() {
		s.err = cmd.Wait()
		close(s.done)
	}()
	return s, nil
}

// inputFile holds a short standard input; nil reads as empty.
func inputFile(input []byte) (*os.File, error) {
	if input == nil {
		return os.Open(os.DevNull)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	// The text fits in the pipe's buffer, so this needs no reader yet.
	_, err = w.Write(input)
	if err = errors.Join(err, w.Close()); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// kill ends the command and everything below it, and waits for that.
func (s *supervised) kill() {
	s.life.Close()
	<-s.done
}

// detach lets the command run on without us.
func (s *supervised) detach() error {
	_, err := s.life.WriteString("detach\n")
	return errors.Join(err, s.life.Close())
}

// ended reports whether the command is over.
func (s *supervised) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// runCommand runs a short-lived server program to its end. Its output is in
// the error, if there is one.
func runCommand(ctx context.Context, a account, input []byte, argv ...string) error {
	output, err := os.CreateTemp("", "pgtide-output-")
	if err != nil {
		return nameDiskFull(err)
	}
	defer os.Remove(output.Name())
	defer output.Close()
	s, err := supervise(a, output, input, argv...)
	if err != nil {
		return err
	}
	defer s.life.Close()
	select {
	case <-s.done:
		err = s.err
	case <-ctx.Done():
		s.kill()
		err = context.Cause(ctx)
	}
	if err == nil {
		return nil
	}
	text, _ := os.ReadFile(output.Name())
	return withLog(fmt.Errorf("run %s: %w", filepath.Base(argv[0]), err), splitLines(text))
}

func splitLines(text []byte) []string {
	var lines []string
	for line := range bytes.Lines(text) {
		if line = bytes.TrimRight(line, "\r\n"); len(line) > 0 {
			lines = append(lines, string(line))
		}
	}
	return lines
}

// serverEnv is our environment without what would redirect a server program
// or translate its messages, which the lab reads.
func serverEnv() []string {
	var env []string
	for _, entry := range os.Environ() {
		if strings.HasPrefix(entry, "PG") || strings.HasPrefix(entry, "LC_") || strings.HasPrefix(entry, "LANG") {
			continue
		}
		env = append(env, entry)
	}
	return append(env, "LC_ALL=C", "TZ=UTC")
}
