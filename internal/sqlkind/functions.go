package sqlkind

import "strings"

// function judges a call by the function's name. Schemas do not matter: a
// function of the user's own that shares a name with one of these is taken for
// it, and so is one that differs in case only.
func function(name string) finding {
	var buf [longestName]byte
	folded := lower(buf[:], name)
	if v, ok := functions[string(folded)]; ok {
		return v
	}
	if len(folded) < 3 {
		return finding{Kind: Read}
	}
	switch string(folded[:3]) {
	case "pg_", "dbl", "lo_", "bin":
	default:
		return finding{Kind: Read}
	}
	called := string(folded)
	for _, f := range families {
		if strings.HasPrefix(called, f.prefix) {
			// The cut may have left half a character.
			return finding{f.kind, strings.ToValidUTF8(called, "")}
		}
	}
	return finding{Kind: Read}
}

// relation judges a name by what it may stand for other than a function. What
// the views named here show is one server's own, so that a replica gives a good
// answer to another question.
func relation(name string) finding {
	if len(name) < 4 || name[2] != '_' || name[0]|0x20 != 'p' || name[1]|0x20 != 'g' {
		return finding{Kind: Read}
	}
	var buf [longestName]byte
	folded := lower(buf[:], name)
	if v, ok := relations[string(folded)]; ok {
		return v
	}
	switch s := string(folded); {
	case strings.HasPrefix(s, "pg_temp_"):
		return finding{Session, "pg_temp"}
	case strings.HasPrefix(s, "pg_stat_"), strings.HasPrefix(s, "pg_statio_"), strings.HasPrefix(s, "pg_buffercache"):
		return finding{Unknown, strings.ToValidUTF8(s, "")}
	}
	return finding{Kind: Read}
}

// longestName is where the server cuts names.
const longestName = 63

// families are functions told by how their names begin, the first match counts.
// A pg_ function is Unknown unless known to be harmless: most of those that act
// (pg_promote, pg_terminate_backend, pg_wal_replay_pause, pg_reload_conf) do so
// on a standby too, and a later server may bring more.
var families = []struct {
	prefix string
	kind   Kind
}{
	{"pg_advisory_", Session},
	{"pg_try_advisory_", Session},
	{"pg_replication_origin_session_", Session},
	{"pg_", Unknown},
	{"dblink", Unknown},
	{"lo_", Write},
	{"binary_upgrade_", Write},
}

// functions holds the calls that are told by their whole name.
var functions = func() map[string]finding {
	m := map[string]finding{}
	add := func(kind Kind, names string) {
		for _, name := range strings.Fields(names) {
			m[name] = finding{kind, name}
		}
	}
	// Settings, random seeds, sequences' last values, transaction ids, snapshots,
	// cursors and channels of one session.
	add(Session, `set_config setseed set_limit currval lastval
		txid_current_if_assigned pg_current_xact_id_if_assigned
		pg_export_snapshot pg_notify pg_listening_channels pg_my_temp_schema
		pg_cursor pg_prepared_statement cursor_to_xml cursor_to_xmlschema
		lo_open lo_close lo_lseek lo_lseek64 lo_tell lo_tell64 loread`)
	// A standby refuses these, some of them with a code that does not say why.
	add(Write, `nextval setval txid_current pg_current_xact_id lowrite
		pg_logical_emit_message pg_create_restore_point pg_switch_wal
		pg_import_system_collations pg_nextoid
		pg_restore_relation_stats pg_restore_attribute_stats
		pg_clear_relation_stats pg_clear_attribute_stats
		brin_summarize_new_values brin_summarize_range brin_desummarize_range
		gin_clean_pending_list heap_force_kill heap_force_freeze`)
	for name := range runners {
		add(Unknown, name)
	}
	// Snapshots of a standby count running transactions otherwise than those of a
	// primary, and what became of a transaction is news there.
	add(Unknown, `txid_current_snapshot txid_status`)
	// Connections to other servers belong to the session, and so does a switch of
	// the extension isn.
	add(Session, `postgres_fdw_disconnect postgres_fdw_disconnect_all
		postgres_fdw_get_connections isn_weak`)
	// These act on one server's memory, or look into its files and locks, which on
	// another are not the same.
	add(Unknown, `autoprewarm_start_worker autoprewarm_dump_now pgrowlocks
		get_raw_page bt_metap bt_page_stats bt_multi_page_stats bt_page_items
		hash_bitmap_info pgstattuple pgstattuple_approx pgstatindex
		pgstatginindex pgstathashindex
		bt_index_check bt_index_parent_check gin_index_check verify_heapam`)
	add(Read, "lo_get")
	add(Read, harmless)
	return m
}()

// runners run SQL given as text, which nobody has looked at.
var runners = map[string]bool{
	"query_to_xml": true, "query_to_xml_and_xmlschema": true, "query_to_xmlschema": true,
	"ts_stat": true, "ts_rewrite": true, "connectby": true, "xpath_table": true,
	"crosstab": true, "crosstab2": true, "crosstab3": true, "crosstab4": true,
}

// harmless are the pg_ functions that change nothing, say the same of the data on
// every node, and work on a standby; or ask a node only where it stands.
const harmless = `
	pg_sleep pg_sleep_for pg_sleep_until pg_backend_pid pg_trigger_depth
	pg_is_in_recovery pg_last_wal_receive_lsn pg_last_wal_replay_lsn
	pg_last_xact_replay_timestamp pg_is_wal_replay_paused
	pg_get_wal_replay_pause_state pg_postmaster_start_time pg_jit_available

	pg_typeof pg_basetype pg_collation_for pg_column_size pg_column_compression
	pg_column_toast_chunk_id pg_input_is_valid pg_input_error_info
	pg_size_pretty pg_size_bytes pg_client_encoding pg_char_to_encoding
	pg_encoding_to_char pg_encoding_max_length
	pg_timezone_names pg_timezone_abbrevs pg_timezone_abbrevs_zone
	pg_timezone_abbrevs_abbrevs
	pg_lsn pg_lsn_cmp pg_lsn_eq pg_lsn_ge pg_lsn_gt pg_lsn_hash
	pg_lsn_hash_extended pg_lsn_larger pg_lsn_le pg_lsn_lt pg_lsn_mi pg_lsn_mii
	pg_lsn_ne pg_lsn_pli pg_lsn_smaller pg_wal_lsn_diff
	pg_snapshot_xip pg_snapshot_xmax pg_snapshot_xmin pg_visible_in_snapshot

	pg_relation_size pg_table_size pg_indexes_size pg_total_relation_size
	pg_database_size pg_tablespace_size pg_relation_filenode
	pg_relation_filepath pg_filenode_relation
	pg_partition_ancestors pg_partition_root pg_partition_tree
	pg_tablespace_databases pg_tablespace_location
	pg_sequence_parameters pg_options_to_table pg_mcv_list_items

	pg_get_acl pg_get_catalog_foreign_keys pg_get_constraintdef pg_get_expr
	pg_get_function_arg_default pg_get_function_arguments
	pg_get_function_identity_arguments pg_get_function_result
	pg_get_function_sqlbody pg_get_functiondef pg_get_indexdef pg_get_keywords
	pg_get_object_address pg_get_partition_constraintdef pg_get_partkeydef
	pg_get_publication_tables pg_get_replica_identity_index pg_get_ruledef
	pg_get_serial_sequence pg_get_statisticsobjdef
	pg_get_statisticsobjdef_columns pg_get_statisticsobjdef_expressions
	pg_get_triggerdef pg_get_userbyid pg_get_viewdef
	pg_describe_object pg_identify_object pg_identify_object_as_address
	pg_has_role pg_settings_get_flags
	pg_collation_is_visible pg_conversion_is_visible pg_function_is_visible
	pg_opclass_is_visible pg_operator_is_visible pg_opfamily_is_visible
	pg_statistics_obj_is_visible pg_table_is_visible pg_ts_config_is_visible
	pg_ts_dict_is_visible pg_ts_parser_is_visible pg_ts_template_is_visible
	pg_type_is_visible
	pg_column_is_updatable pg_relation_is_updatable pg_relation_is_publishable
	pg_index_column_has_property pg_index_has_property
	pg_indexam_has_property pg_available_extensions
	pg_available_extension_versions pg_extension_update_paths`

// relations holds the relations and schemas that are told by their whole name.
var relations = map[string]finding{
	"pg_temp":                      {Session, "pg_temp"},
	"pg_cursors":                   {Session, "pg_cursors"},
	"pg_prepared_statements":       {Session, "pg_prepared_statements"},
	"pg_locks":                     {Unknown, "pg_locks"},
	"pg_prepared_xacts":            {Unknown, "pg_prepared_xacts"},
	"pg_replication_slots":         {Unknown, "pg_replication_slots"},
	"pg_replication_origin_status": {Unknown, "pg_replication_origin_status"},
	"pg_aios":                      {Unknown, "pg_aios"},
	"pg_backend_memory_contexts":   {Unknown, "pg_backend_memory_contexts"},
	"pg_config":                    {Unknown, "pg_config"},
	"pg_file_settings":             {Unknown, "pg_file_settings"},
	"pg_hba_file_rules":            {Unknown, "pg_hba_file_rules"},
	"pg_ident_file_mappings":       {Unknown, "pg_ident_file_mappings"},
	"pg_shmem_allocations":         {Unknown, "pg_shmem_allocations"},
	"pg_shmem_allocations_numa":    {Unknown, "pg_shmem_allocations_numa"},
	// A standby knows of a sequence what is logged in advance, up to 32 values that
	// were never given.
	"pg_sequences": {Unknown, "pg_sequences"},
}
