package front

import "github.com/jackc/pgx/v5"

// Rewritten reports whether the statement is not what its text says: the
// argument at(i) of n has pgx make another one of it. Named arguments are none
// of these: they leave the statement as it is.
func Rewritten(n int, at func(int) any) bool {
	for i := range n {
		switch at(i).(type) {
		case pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID,
			pgx.NamedArgs, pgx.StrictNamedArgs:
		case pgx.QueryRewriter:
			return true
		default:
			return false // options come before parameters
		}
	}
	return false
}
