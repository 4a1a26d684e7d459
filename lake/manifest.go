package lake

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// Manifest names one snapshot of every table: what a batch run published, and
// what a query of the batch layer sees. It never changes.
type Manifest struct {
	ID           int64                      `json:"id"`     // given by Publish: Parent + 1
	Parent       int64                      `json:"parent"` // the manifest before; 0: none
	Step         int64                      `json:"step"`   // the tables hold all of this step and nothing after it
	Published    time.Time                  `json:"published"`
	Offsets      map[string]map[int32]int64 `json:"offsets,omitempty"`      // by topic, topic partition: end of the step
	Fingerprints map[string]string          `json:"fingerprints,omitempty"` // by model
	Tables       map[string]int64           `json:"tables,omitempty"`       // snapshot by table
	Bronze       map[string]int64           `json:"bronze,omitempty"`       // snapshot by bronze table that was read
	Attributes   map[string]string          `json:"attributes,omitempty"`   // whatever the publisher wants to remember
}

// ErrNoManifest says that a manifest does not exist (any more).
var ErrNoManifest = errors.New("no such manifest")

// manifestFormat is the version of the file that we write and the highest that
// we read.
const manifestFormat = 1

// manifestEnvelope is a manifest file. Sum is the CRC-32C of the bytes of
// Manifest, so that damage does not pass for another state.
type manifestEnvelope struct {
	Format   int             `json:"format"`
	Sum      string          `json:"crc32c"`
	Manifest json.RawMessage `json:"manifest"`
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sumOf(data []byte) string { return fmt.Sprintf("%08x", crc32.Checksum(data, castagnoli)) }

func manifestName(id int64) string { return fmt.Sprintf("manifests/%012d.json", id) }

// Publish makes m the newest manifest, if m.Parent is the newest now (0: there
// is none); otherwise it gives ErrConflict. It sets ID, and Published when that
// is zero. The manifest is there whole or not at all.
func (l *Lake) Publish(ctx context.Context, m Manifest) (Manifest, error) {
	ctx = withOp(ctx, OpPublish)
	newest, err := l.newestManifestID(ctx)
	if err != nil {
		return m, err
	}
	if newest != m.Parent {
		return m, fmt.Errorf("cannot publish on manifest %d: %w: the newest is %d", m.Parent, ErrConflict, newest)
	}
	m.ID = m.Parent + 1
	if m.Published.IsZero() {
		m.Published = time.Now().UTC().Truncate(time.Microsecond)
	}
	return m, l.putManifest(ctx, m)
}

// putManifest writes m under its number, which fails when that is taken: the
// compare-and-swap. Where the answer got lost, what is there tells.
func (l *Lake) putManifest(ctx context.Context, m Manifest) error {
	data, err := encodeManifest(m)
	if err != nil {
		return fmt.Errorf("cannot encode manifest %d: %w", m.ID, err)
	}
	err = l.objects.PutNew(ctx, manifestName(m.ID), data)
	if errors.Is(err, ErrUnknownOutcome) {
		if there, e := l.objects.Get(ctx, manifestName(m.ID)); e == nil && bytes.Equal(there, data) {
			err = nil
		} else if e == nil {
			err = ErrConflict
		}
	}
	if err != nil {
		return fmt.Errorf("cannot publish on manifest %d: %w", m.Parent, err)
	}
	if err := l.hook(ctx, PointPublished, ""); err != nil {
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	return nil
}

func encodeManifest(m Manifest) ([]byte, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(manifestEnvelope{Format: manifestFormat, Sum: sumOf(body), Manifest: body})
	return append(data, '\n'), err
}

// Manifests gives all manifests, oldest first. One that cannot be read is an
// error that names its file.
func (l *Lake) Manifests(ctx context.Context) ([]Manifest, error) {
	ids, err := l.manifestIDs(ctx)
	if err != nil {
		return nil, err
	}
	var list []Manifest
	for _, id := range ids {
		m, err := l.Manifest(ctx, id)
		if errors.Is(err, ErrNoManifest) { // dropped in between
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

// NewestManifest gives the newest manifest; ok is false when there is none.
func (l *Lake) NewestManifest(ctx context.Context) (m Manifest, ok bool, err error) {
	id, err := l.newestManifestID(ctx)
	if err != nil || id == 0 {
		return Manifest{}, false, err
	}
	m, err = l.Manifest(ctx, id)
	return m, err == nil, err
}

// Manifest gives one manifest, or ErrNoManifest.
func (l *Lake) Manifest(ctx context.Context, id int64) (Manifest, error) {
	data, err := l.objects.Get(ctx, manifestName(id))
	if errors.Is(err, ErrNoObject) {
		return Manifest{}, fmt.Errorf("manifest %d: %w", id, ErrNoManifest)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("cannot read manifest %d: %w", id, err)
	}
	m, err := decodeManifest(data)
	if err == nil && m.ID != id {
		err = fmt.Errorf("it holds manifest %d", m.ID)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("cannot read manifest %s: %w; remove the file: the next batch builds silver and gold again from bronze", l.objects.place(manifestName(id)), err)
	}
	return m, nil
}

func decodeManifest(data []byte) (Manifest, error) {
	var e manifestEnvelope
	if err := json.Unmarshal(data, &e); err != nil {
		return Manifest{}, fmt.Errorf("it is damaged: %w", err)
	}
	if e.Format > manifestFormat {
		return Manifest{}, fmt.Errorf("it has format %d, this program reads up to %d: use a newer one", e.Format, manifestFormat)
	}
	if sum := sumOf(e.Manifest); sum != e.Sum {
		return Manifest{}, fmt.Errorf("it is damaged: checksum %s, expected %s", sum, e.Sum)
	}
	var m Manifest
	if err := json.Unmarshal(e.Manifest, &m); err != nil {
		return Manifest{}, fmt.Errorf("it is damaged: %w", err)
	}
	return m, nil
}

// DropManifests removes all manifests but the newest keep and those named. The
// newest always stays: its number is what Publish compares with.
func (l *Lake) DropManifests(ctx context.Context, keep int, named ...int64) error {
	ids, err := l.manifestIDs(ctx)
	if err != nil {
		return err
	}
	for i, id := range ids {
		if i >= len(ids)-max(keep, 1) || slices.Contains(named, id) {
			continue
		}
		if err := l.objects.Delete(ctx, manifestName(id)); err != nil {
			return fmt.Errorf("cannot remove manifest %d: %w", id, err)
		}
	}
	return nil
}

var manifestFile = regexp.MustCompile(`^manifests/(\d{12})\.json$`)

// manifestIDs are the numbers of all manifests, in order.
func (l *Lake) manifestIDs(ctx context.Context) ([]int64, error) {
	names, err := l.objects.List(ctx, "manifests/")
	if err != nil {
		return nil, fmt.Errorf("cannot list manifests: %w", err)
	}
	var ids []int64
	for _, name := range names {
		if m := manifestFile.FindStringSubmatch(name); m != nil {
			id, err := strconv.ParseInt(m[1], 10, 64)
			if err == nil {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return ids, nil
}

func (l *Lake) newestManifestID(ctx context.Context) (int64, error) {
	ids, err := l.manifestIDs(ctx)
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	return ids[len(ids)-1], nil
}
