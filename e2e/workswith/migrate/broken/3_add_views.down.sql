alter table post drop column views;
