-- name: PlaceOrder :one
insert into orders (item) values ($1) returning *;

-- name: ListOrders :many
select * from orders order by id;
