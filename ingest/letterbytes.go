package ingest

// Raw gives key and value of the record as they were; the value is missing
// where the letter says that it was left out.
func (l *Letter) Raw() (key, value []byte) {
	if l.record == nil {
		return nil, nil
	}
	return l.record.Key, l.record.Value
}
