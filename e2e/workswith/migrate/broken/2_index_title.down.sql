drop index concurrently post_title;
