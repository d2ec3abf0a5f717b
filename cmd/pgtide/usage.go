package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// misuse returns a usageError with the hint to read the command's help.
func misuse(cmd *cobra.Command, format string, args ...any) error {
	return withHint(&usageError{fmt.Errorf(format, args...)}, "%s --help shows how to use it", cmd.CommandPath())
}

// unknownCommand says what the group has instead of args[0].
func unknownCommand(group *cobra.Command, args []string) error {
	var names []string
	for _, cmd := range group.Commands() {
		if cmd.IsAvailableCommand() {
			names = append(names, cmd.Name())
		}
	}
	err := fmt.Errorf("unknown command %q for %q", args[0], group.CommandPath())
	if near := nearest(args[0], names); near != "" {
		err = fmt.Errorf("%w: did you mean %q?", err, near)
	}
	return withHint(&usageError{err}, "%s --help lists the commands", group.CommandPath())
}

// explainFlag turns what the flag package says into what to do.
func explainFlag(cmd *cobra.Command, err error) error {
	// The flags of a mistyped command are unknown too, but not the mistake.
	if cmd.HasSubCommands() && cmd.Flags().NArg() > 0 {
		return unknownCommand(cmd, cmd.Flags().Args())
	}
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		return explainUnknownFlag(cmd, unknown)
	}
	if missing, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		return misuse(cmd, "--%s needs %s", missing.GetFlag().Name, valueOf(missing.GetFlag()))
	}
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return misuse(cmd, "--%s takes %s, not %q", invalid.GetFlag().Name, valueOf(invalid.GetFlag()), invalid.GetValue())
	}
	return misuse(cmd, "%w", err)
}

func explainUnknownFlag(cmd *cobra.Command, unknown *pflag.NotExistError) error {
	given := unknown.GetSpecifiedName()
	if short := unknown.GetSpecifiedShortnames(); short != "" {
		if _, err := strconv.Atoi(given); err == nil {
			return misuse(cmd, "-%s is below zero", short)
		}
		return misuse(cmd, "unknown option -%s", given)
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if near := nearest(given, names); near != "" {
		return misuse(cmd, "unknown option --%s: did you mean --%s?", given, near)
	}
	return misuse(cmd, "unknown option --%s", given)
}

// valueOf says what a flag's value looks like.
func valueOf(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "int":
		return "a whole number"
	case "duration":
		return "a duration such as 500ms or 3s"
	case "bool":
		return "true or false"
	}
	return "a value"
}

// noArgs refuses arguments; cobra's own check calls them unknown commands.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return misuse(cmd, "unexpected argument %q", args[0])
	}
	return nil
}

// nearest returns the candidate that word is a beginning of or at most two typing
// mistakes away from, and "" if there is none.
func nearest(word string, candidates []string) string {
	best, fewest := "", 3
	for _, candidate := range candidates {
		if len(word) > 1 && strings.HasPrefix(candidate, word) {
			return candidate
		}
		// In a word of two letters two mistakes leave nothing of it.
		if d := distance(word, candidate); d < fewest && d < len(candidate) {
			best, fewest = candidate, d
		}
	}
	return best
}

// distance counts the letters to add, drop or replace between two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
