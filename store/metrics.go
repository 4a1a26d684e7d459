package store

// Metrics are figures of a store at one moment; counters start at Open.
type Metrics struct {
	DiskBytes       int64 // all files
	TableFiles      int64 // sstables
	ReadAmp         int   // levels that a read may have to look into
	CompactionDebt  int64 // bytes to be compacted until the store is at rest
	MemTableBytes   int64
	CacheBytes      int64
	CacheHits       int64 // counter
	CacheMisses     int64 // counter
	FilterHits      int64 // counter: reads of a table file spared by a bloom filter
	FilterMisses    int64 // counter
	WALBytesWritten int64 // counter
}

// CacheHitRate is the share of block reads that the cache answered, 0 to 1.
func (m Metrics) CacheHitRate() float64 {
	if m.CacheHits+m.CacheMisses == 0 {
		return 0
	}
	return float64(m.CacheHits) / float64(m.CacheHits+m.CacheMisses)
}

// Metrics gives the figures of now.
func (s *Store) Metrics() Metrics {
	m := s.db.Metrics()
	return Metrics{
		DiskBytes:       int64(m.DiskSpaceUsage()),
		TableFiles:      m.Total().TablesCount,
		ReadAmp:         m.ReadAmp(),
		CompactionDebt:  int64(m.Compact.EstimatedDebt),
		MemTableBytes:   int64(m.MemTable.Size),
		CacheBytes:      m.BlockCache.Size,
		CacheHits:       m.BlockCache.Hits,
		CacheMisses:     m.BlockCache.Misses,
		FilterHits:      m.Filter.Hits,
		FilterMisses:    m.Filter.Misses,
		WALBytesWritten: int64(m.WAL.BytesWritten),
	}
}
