drop table never;
