package squirrel

import (
	sq "github.com/Masterminds/squirrel"
)

// schema ends with rows that the replicas have.
const schema = `
	create table item (
		id    bigint generated always as identity primary key,
		name  text not null unique,
		price int not null default 0
	);
	insert into item (name, price) values ('apple', 3), ('pear', 5)`

var psql = sq.StatementBuilder.PlaceholderFormat(sq.Dollar)
