// Package schema is what the ent client beside it is generated from.
package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
)

// Message belongs to an account, or to none.
type Message struct{ ent.Schema }

// Fields of the Message.
func (Message) Fields() []ent.Field {
	return []ent.Field{field.String("text").NotEmpty()}
}

// Edges of the Message.
func (Message) Edges() []ent.Edge {
	return []ent.Edge{edge.From("account", Account.Type).Ref("messages").Unique()}
}
