/** No table: somebody's file that cannot be loaded. */
throw new Error('half written');
