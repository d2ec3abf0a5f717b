//go:build cgo

package sqloracle

import (
	"fmt"
	"strings"

	pg_query "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// opinion is what the grammar says of a text.
type opinion struct {
	statements int
	// unsafe is why the text must not be a read, "" if nothing speaks against it.
	unsafe string
	// called and read are the functions and relations that the text names where
	// they would be used, quoted, with their schema if it has one.
	called, read []string
}

// parse returns an error for a text that is none to the grammar.
func parse(sql string) (opinion, error) {
	tree, err := pg_query.Parse(sql)
	if err != nil {
		return opinion{}, err
	}
	o := opinion{statements: len(tree.Stmts)}
	for _, s := range tree.Stmts {
		o.statement(s.Stmt)
	}
	return o, nil
}

func (o *opinion) object(format string, args ...any) {
	if o.unsafe == "" {
		o.unsafe = fmt.Sprintf(format, args...)
	}
}

// statement judges a whole statement, or what COPY and EXPLAIN hold.
func (o *opinion) statement(node *pg_query.Node) {
	switch s := node.GetNode().(type) {
	case *pg_query.Node_SelectStmt:
		o.query(s.SelectStmt)
	case *pg_query.Node_VariableShowStmt:
	case *pg_query.Node_CopyStmt:
		switch {
		case s.CopyStmt.IsFrom:
			o.object("copy from")
		case s.CopyStmt.IsProgram || s.CopyStmt.Filename != "":
			o.object("copy to a file or program")
		case s.CopyStmt.Query != nil:
			o.statement(s.CopyStmt.Query)
		default:
			o.query(s.CopyStmt.Relation)
		}
	case *pg_query.Node_ExplainStmt:
		if analyzes(s.ExplainStmt.Options) {
			o.statement(s.ExplainStmt.Query)
			return
		}
		// A standby refuses a temporary table although it is only planned.
		walk(s.ExplainStmt.Query.ProtoReflect(), func(message proto.Message) {
			if _, ok := message.(*pg_query.IntoClause); ok {
				o.object("a new table, planned")
			}
		})
	default:
		o.object("%T", node.GetNode())
	}
}

// analyzes reports whether EXPLAIN runs its statement: the last ANALYZE counts.
func analyzes(options []*pg_query.Node) bool {
	runs := false
	for _, node := range options {
		option := node.GetDefElem()
		if option.GetDefname() != "analyze" {
			continue
		}
		value := option.GetArg()
		switch {
		case value == nil:
			runs = true
		case value.GetInteger() != nil:
			runs = value.GetInteger().Ival != 0
		default:
			word := strings.ToLower(value.GetString_().GetSval())
			runs = word != "false" && word != "off"
		}
	}
	return runs
}

// query judges all that is inside a query.
func (o *opinion) query(message proto.Message) {
	walk(message.ProtoReflect(), func(message proto.Message) {
		switch m := message.(type) {
		case *pg_query.LockingClause, *pg_query.IntoClause, *pg_query.InsertStmt,
			*pg_query.UpdateStmt, *pg_query.DeleteStmt, *pg_query.MergeStmt:
			o.object("%T", m)
		case *pg_query.FuncCall:
			var parts []string
			for _, part := range m.Funcname {
				parts = append(parts, part.GetString_().GetSval())
			}
			o.called = append(o.called, quote(parts...))
		case *pg_query.RangeVar:
			if m.Schemaname == "" {
				o.read = append(o.read, quote(m.Relname))
			} else {
				o.read = append(o.read, quote(m.Schemaname, m.Relname))
			}
		}
	})
}

// walk visits a message and all inside it.
func walk(m protoreflect.Message, visit func(proto.Message)) {
	visit(m.Interface())
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.Kind() != protoreflect.MessageKind:
		case field.IsList():
			for i := range value.List().Len() {
				walk(value.List().Get(i).Message(), visit)
			}
		default:
			walk(value.Message(), visit)
		}
		return true
	})
}

// quote writes a name as it is read again.
func quote(parts ...string) string {
	for i, part := range parts {
		parts[i] = `"` + strings.ReplaceAll(part, `"`, `""`) + `"`
	}
	return strings.Join(parts, ".")
}
