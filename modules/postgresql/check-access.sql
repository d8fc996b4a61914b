-- PostgreSQL keeps its old rules of access when the new ones are wrong, and says so only here.
SELECT count(*) > 0 AS wrong, coalesce(string_agg(format('%s:%s: %s', file_name, line_number, error), E'\n'), '') AS errors
  FROM (SELECT file_name, line_number, error FROM pg_hba_file_rules
        UNION ALL
        SELECT file_name, line_number, error FROM pg_ident_file_mappings) AS rules
 WHERE error IS NOT NULL \gset
\if :wrong
\warn :errors
DO 'BEGIN RAISE ''the rules of access are wrong; the old ones stay in force''; END';
\endif
