create unique index concurrently post_title on post (title);
