package replay

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/zeebo/xxh3"

	"lockstep/project"
)

const identityFile = "inputs.json"

// identity names everything that the events depend on. Two replays with the
// same identity send the same records.
type identity struct {
	// Inputs by name, each with a hash or a value: raw files with their
	// size, or scale and seed; SQL files; the topics' description.
	Inputs map[string]string `json:"inputs"`
}

// identify reads the inputs of a replay and names them.
func identify(c Config) (*identity, error) {
	id := &identity{Inputs: map[string]string{"format": "1"}}
	if err := id.addSQL(c.Project.FS, "sources/*.sql"); err != nil {
		return nil, err
	}
	if c.Data == "" {
		id.Inputs["scale"] = strconv.FormatFloat(c.Scale, 'g', -1, 64)
		id.Inputs["seed"] = strconv.FormatInt(c.Seed, 10)
		if err := id.addSQL(c.Project.FS, "generate/*.sql"); err != nil {
			return nil, err
		}
	}
	if err := id.addRaw(c); err != nil {
		return nil, err
	}
	for _, s := range c.sources() {
		id.Inputs["topic "+s.Topic] = hash(fmt.Sprint(s.Key, s.EventTime, s.Partitions, s.Query, s.Fields, string(s.Schema)))
	}
	return id, nil
}

// addRaw names the raw tables and hashes their files. It tells of all files
// that are missing.
func (id *identity) addRaw(c Config) error {
	if c.Data != "" {
		if err := checkFolder(c.Data, c.Project.RawFiles); err != nil {
			return err
		}
	}
	var missing project.Problems
	for _, f := range c.Project.RawFiles {
		id.Inputs["columns of raw."+f.Name] = hash(fmt.Sprint(f.Columns))
		if c.Data == "" {
			continue
		}
		sum, err := hashFile(filepath.Join(c.Data, f.File))
		var found project.Problems
		if errors.As(err, &found) {
			missing = append(missing, found...)
		} else if err != nil {
			return err
		}
		id.Inputs["file "+f.File] = sum
	}
	return missing.Err()
}

func (id *identity) addSQL(fsys fs.FS, pattern string) error {
	files, err := fs.Glob(fsys, pattern)
	if err != nil {
		return fmt.Errorf("cannot list %s: %w", pattern, err)
	}
	for _, f := range files {
		sql, err := fs.ReadFile(fsys, f)
		if err != nil {
			return fmt.Errorf("cannot read %s: %w", f, err)
		}
		id.Inputs["query "+f] = hash(string(sql))
	}
	return nil
}

func hash(s string) string { return fmt.Sprintf("%016x", xxh3.HashString(s)) }

func hashFile(name string) (string, error) {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return "", missingFile(name)
	}
	if err != nil {
		return "", fmt.Errorf("cannot open raw file: %w", err)
	}
	defer f.Close()
	h := xxh3.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return "", fmt.Errorf("cannot read %s: %w", name, err)
	}
	return fmt.Sprintf("%d bytes, xxh3 %016x", n, h.Sum64()), nil
}

// sum is the identity in 8 bytes; each record carries it.
func (id *identity) sum() [8]byte {
	text, err := json.Marshal(id.Inputs) // sorts by key
	if err != nil {
		panic(err) // a map of strings
	}
	return [8]byte(binary.BigEndian.AppendUint64(nil, xxh3.Hash(text)))
}

func (id *identity) String() string {
	sum := id.sum()
	return hex.EncodeToString(sum[:])
}

// difference lists the inputs in which two identities differ, by name.
func (id *identity) difference(other *identity) []string {
	var names []string
	for name, v := range id.Inputs {
		if other.Inputs[name] != v {
			names = append(names, name)
		}
	}
	for name := range other.Inputs {
		if _, ok := id.Inputs[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// readIdentity is what an earlier run recorded in dir; nil if none did.
func readIdentity(dir string) (*identity, error) {
	name := filepath.Join(dir, identityFile)
	text, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read what was replayed before: %w", err)
	}
	id := &identity{}
	if err := json.Unmarshal(text, id); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w; delete the file, the log is looked at instead", name, err)
	}
	return id, nil
}

// write records the identity in dir, whole or not at all.
func (id *identity) write(dir string) error { return writeJSON(filepath.Join(dir, identityFile), id) }

// writeJSON replaces a file in one step, so that a crash leaves the old one
// or the new one.
func writeJSON(name string, v any) error {
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return fmt.Errorf("cannot encode %s: %w", name, err)
	}
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".new-*")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", name, err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(text, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", name, err)
	}
	return nil
}
