-- The statements that rebuild each index whose order or content may be another one after a major upgrade:
--   of an expression or with a condition (lower(), to_tsvector(), a pattern): PostgreSQL's own tables of characters change with
--     the version of Unicode that it knows, and full text search may come to use other ones (notes of PostgreSQL 18);
--   sorted by rules of the C library or of ICU, which change with the base system;
--   with operators of an extension, which may compare by the same rules.
-- What is sorted by code points (C, POSIX, the provider `builtin`) keeps its order for ever.
SELECT format('REINDEX INDEX %I.%I', place.nspname, class.relname)
FROM pg_index AS index
JOIN pg_class AS class ON class.oid = index.indexrelid AND class.relkind = 'i'
JOIN pg_namespace AS place ON place.oid = class.relnamespace
WHERE place.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema')
  AND (index.indexprs IS NOT NULL
    OR index.indpred IS NOT NULL
    OR EXISTS (
      SELECT FROM unnest(index.indclass::oid[]) AS used(oid)
      JOIN pg_opclass AS operators ON operators.oid = used.oid
      WHERE operators.opcnamespace <> 'pg_catalog'::regnamespace)
    OR EXISTS (
      SELECT FROM unnest(index.indcollation::oid[]) AS used(oid)
      JOIN pg_collation AS rules ON rules.oid = used.oid
      JOIN pg_database AS here ON here.datname = current_database()
      WHERE CASE rules.collprovider
        WHEN 'd' THEN here.datlocprovider = 'i' OR (here.datlocprovider = 'c' AND here.datcollate NOT IN ('C', 'POSIX'))
        WHEN 'c' THEN rules.collcollate NOT IN ('C', 'POSIX')
        ELSE rules.collprovider = 'i'
      END))
ORDER BY class.oid
