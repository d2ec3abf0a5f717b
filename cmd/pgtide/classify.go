package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/pgtide/pgtide/internal/sqlkind"
)

// classified is one statement and what it was taken for.
type classified struct {
	Statement string `json:"statement"`
	Verdict   string `json:"verdict"` // read, write, session or unknown
	Reason    string `json:"reason"`
	Hint      string `json:"hint,omitempty"` // what its leading comment asks for
}

func newClassifyCommand(s streams) *cobra.Command {
	var files []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "classify [SQL ...]",
		Short: "show what SQL statements are taken for, and why",
		Long: `Classify tells for each statement whether it may go to a replica:

  read     may: it changes nothing
  write    changes data, or is refused by a standby
  session  is bound to its server session: settings, cursors, advisory locks
  unknown  may be anything, and is treated like a write

It reads its arguments, or the files named with --file, or else standard input,
and asks no server. A function of your own counts as harmless until a standby has
refused it. Statements that are sent as one text go where the strongest of them
has to go. A comment at the start, such as /* pgtide: primary */, is shown as the
hint that it is.`,
		Example: `  pgtide classify 'select 1' 'select * from jobs for update skip locked'
  pgtide classify --json < queries.sql
  pgtide classify --file queries.sql`,
		DisableFlagParsing: true, // SQL may begin like an option
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := cmd.Flags().Parse(protectSQL(args)); err != nil {
				return cmd.FlagErrorFunc()(cmd, err)
			}
			if help, err := cmd.Flags().GetBool("help"); help || err != nil {
				return errors.Join(err, cmd.Help())
			}
			args = cmd.Flags().Args()
			if len(args) > 0 && len(files) > 0 {
				return misuse(cmd, "SQL is taken from arguments or from --file, not both")
			}
			texts, err := s.readSQL(args, files)
			if err != nil {
				return err
			}
			all := []classified{} // not null in JSON
			for _, text := range texts {
				all = append(all, classify(text)...)
			}
			if asJSON {
				return s.printJSON(all)
			}
			return printClassified(s.out, all)
		},
	}
	cmd.Flags().StringArrayVarP(&files, "file", "f", nil, "read SQL from a `file`; - is standard input; may be given several times")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON array")
	return cmd
}

// option is what an option looks like; anything else that begins with two dashes
// is SQL after a comment.
var option = regexp.MustCompile(`^--([a-z][a-z-]*(=.*)?)?$`)

// protectSQL puts a blank before SQL that would be read as an option.
func protectSQL(args []string) []string {
	protected := slices.Clone(args)
	for i, arg := range args {
		if strings.HasPrefix(arg, "--") && !option.MatchString(arg) {
			protected[i] = " " + arg
		}
	}
	return protected
}

// readSQL returns the texts to classify.
func (s streams) readSQL(args, files []string) ([]string, error) {
	if len(args) > 0 {
		return args, nil
	}
	if len(files) == 0 {
		files = []string{"-"}
	}
	var texts []string
	for _, name := range files {
		text, err := s.readFile(name)
		if err != nil {
			if pathErr, ok := errors.AsType[*os.PathError](err); ok {
				err = pathErr.Err // the name is said once
			}
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		texts = append(texts, string(text))
	}
	return texts, nil
}

func (s streams) readFile(name string) ([]byte, error) {
	if name != "-" {
		return os.ReadFile(name)
	}
	if f, ok := s.in.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			s.progress("reading SQL from the terminal up to Ctrl-D")
		}
	}
	return io.ReadAll(s.in)
}

// classify judges each statement of a text by itself.
func classify(text string) []classified {
	var all []classified
	for _, statement := range sqlkind.Split(text) {
		v := sqlkind.Classify(statement)
		all = append(all, classified{statement, v.Kind.String(), v.Reason, v.Hint.String()})
	}
	return all
}

func printClassified(out io.Writer, all []classified) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "VERDICT\tREASON\tHINT\tSTATEMENT")
	for _, c := range all {
		hint := "-"
		if c.Hint != "" {
			hint = oneLine(c.Hint)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.Verdict, oneLine(c.Reason), hint, oneLine(c.Statement))
	}
	return w.Flush()
}

// oneLine makes a text fit into a table: white space becomes one blank, what a
// terminal could take for a command is escaped, and the end may be cut off.
func oneLine(text string) string {
	const longest = 100
	var b strings.Builder
	shown, blank := 0, false
	for _, r := range text {
		if unicode.IsSpace(r) {
			blank = true
			continue
		}
		if shown >= longest {
			return b.String() + "..."
		}
		if blank && shown > 0 {
			b.WriteByte(' ')
			shown++
		}
		blank = false
		if !unicode.IsPrint(r) {
			fmt.Fprintf(&b, "\\u%04x", r)
		} else {
			b.WriteRune(r)
		}
		shown++
	}
	return b.String()
}
