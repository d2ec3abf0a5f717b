package sqlkind

import "strings"

// Calls reports whether sql calls a function that is not known to change
// nothing. Such a text may still be a [Read]: a standby refuses it if it writes.
// A primary does not, so a caller that runs it there must take it for a write.
//
// What a view, an operator or a cast calls does not show in a text.
func Calls(sql string) bool {
	l := lexer{src: sql}
	var before, last token
	for {
		t := l.next()
		switch {
		case t.kind == end:
			return false
		case t.kind == broken:
			return true
		case t.is('(') && last.name() && !(before.kind == word && strings.EqualFold(before.text, "as")):
			// A schema may hold a function of the user's under a name of the server's.
			if before.is('.') || last.kind != word || !innocent(last.text) {
				return true
			}
		}
		before, last = last, t
	}
}

func innocent(name string) bool {
	var buf [longestName]byte
	folded := lower(buf[:], name)
	if builtin[string(folded)] {
		return true
	}
	v, ok := functions[string(folded)]
	return ok && v.Kind == Read
}

// builtin are the server's functions that are not volatile, by pg_proc, those
// that are for no other reason than to give another answer each time, and the
// keywords and types that a parenthesis may follow.
var builtin = func() map[string]bool {
	m := map[string]bool{}
	for _, name := range strings.Fields(`
	abbrev abs acldefault aclexplode acos acosd acosh age all and any any_value area array
	array_agg array_dims array_fill array_length array_lower array_ndims array_position
	array_positions array_remove array_replace array_reverse array_sample array_shuffle
	array_sort array_to_json array_to_string array_to_tsvector array_upper as ascii asin
	asind asinh atan atan2 atan2d atand atanh avg bernoulli between bigint bit bit_and
	bit_count bit_length bit_or bit_xor bool bool_and bool_or box bpchar broadcast btrim by
	cardinality case casefold cast cbrt ceil ceiling center char char_length character
	character_length chr circle clock_timestamp coalesce col_description collation columns
	concat concat_ws convert convert_from convert_to corr cos cosd cosh cot cotd count
	covar_pop covar_samp crc32 crc32c cross cube cume_dist current_database current_schema
	current_schemas current_setting current_user cycle database_to_xmlschema date date_add
	date_bin date_part date_subtract date_trunc datemultirange daterange dec decimal decode
	degrees dense_rank diagonal diameter distinct div dround dtrunc else encode end
	enum_first enum_last enum_range enum_send erf erfc every except exists exp extract
	factorial family filter first_value float float8 floor format format_type from full
	gamma gcd gen_random_uuid generate_series generate_subscripts get_bit get_byte
	get_current_ts_config getdatabaseencoding getpgusername greatest group grouping
	has_any_column_privilege has_column_privilege has_database_privilege
	has_foreign_data_wrapper_privilege has_function_privilege has_language_privilege
	has_parameter_privilege has_schema_privilege has_sequence_privilege
	has_server_privilege has_table_privilege has_tablespace_privilege has_type_privilege
	having height host hostmask ilike in inet_client_addr inet_client_port inet_server_addr
	inet_server_port initcap inner int2 int4 int4multirange int4range int8 int8multirange
	int8range integer intersect interval is is_normalized isclosed isempty isfinite
	ishorizontal isopen isparallel isperp isvertical join json json_agg json_array
	json_array_elements json_array_elements_text json_array_length json_arrayagg
	json_build_array json_build_object json_each json_each_text json_exists json_object
	json_object_agg json_object_keys json_objectagg json_populate_record
	json_populate_recordset json_query json_scalar json_serialize json_strip_nulls
	json_table json_to_record json_to_recordset json_to_tsvector json_typeof json_value
	jsonb_agg jsonb_array_elements jsonb_array_elements_text jsonb_array_length
	jsonb_build_array jsonb_build_object jsonb_each jsonb_each_text jsonb_insert
	jsonb_object jsonb_object_agg jsonb_object_keys jsonb_path_exists jsonb_path_exists_tz
	jsonb_path_match jsonb_path_match_tz jsonb_path_query jsonb_path_query_array
	jsonb_path_query_array_tz jsonb_path_query_first jsonb_path_query_first_tz
	jsonb_path_query_tz jsonb_populate_record jsonb_populate_recordset jsonb_pretty
	jsonb_set jsonb_set_lax jsonb_strip_nulls jsonb_to_record jsonb_to_recordset
	jsonb_to_tsvector jsonb_typeof justify_days justify_hours justify_interval lag
	last_value lateral lcm lead least left length lgamma like like_escape limit line ln log
	log10 lower lower_inc lower_inf lpad lseg ltrim macaddr8_set7bit make_date
	make_interval make_time make_timestamp make_timestamptz makeaclitem masklen
	materialized max md5 min min_scale mod mode multirange mxid_age natural netmask network
	normalize not now npoints nth_value ntile nullif num_nonnulls num_nulls numeric
	nummultirange numnode numrange obj_description octet_length offset oidvectortypes on or
	order outer over overlaps overlay parse_ident partition passing pclose percent_rank
	percentile_cont percentile_disc phraseto_tsquery pi plainto_tsquery point polygon
	position pow power precision quote_ident quote_literal quote_nullable radians radius
	random random_normal range_agg range_intersect_agg range_merge rank recursive
	regexp_count regexp_instr regexp_like regexp_match regexp_matches regexp_replace
	regexp_split_to_array regexp_split_to_table regexp_substr regr_avgx regr_avgy
	regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy repeat
	repeatable replace reverse right rollup round row row_number row_security_active
	row_to_json rows rpad rtrim satisfies_hash_partition scale schema_to_xmlschema search
	select session_user set_bit set_byte set_masklen sets setweight sha224 sha256 sha384
	sha512 shobj_description sign similar similar_escape similar_to_escape sin sind sinh
	slope smallint some split_part sqrt statement_timestamp stddev stddev_pop stddev_samp
	string_agg string_to_array string_to_table strip strpos substr substring sum system
	table table_to_xmlschema tablesample tan tand tanh text then time timeofday timestamp
	timestamptz timezone to to_ascii to_bin to_char to_date to_hex to_json to_jsonb
	to_number to_oct to_regclass to_regcollation to_regnamespace to_regoper to_regoperator
	to_regproc to_regprocedure to_regrole to_regtype to_timestamp to_tsquery to_tsvector
	transaction_timestamp translate treat trim trim_array trim_scale trunc ts_debug
	ts_delete ts_filter ts_headline ts_lexize ts_parse ts_rank ts_rank_cd ts_token_type
	tsmultirange tsrange tstzmultirange tstzrange tsvector_to_array txid_snapshot_xip
	txid_snapshot_xmax txid_snapshot_xmin txid_visible_in_snapshot union unistr unnest
	upper upper_inc upper_inf using uuid_extract_timestamp uuid_extract_version uuidv4
	uuidv7 values var_pop var_samp varchar variance varying version websearch_to_tsquery
	when where width width_bucket with within xml_is_well_formed xml_is_well_formed_content
	xml_is_well_formed_document xmlagg xmlattributes xmlcomment xmlconcat xmlelement
	xmlexists xmlforest xmlparse xmlpi xmlroot xmlserialize xmltable xmlvalidate xpath
	xpath_exists`) {
		m[name] = true
	}
	return m
}()
