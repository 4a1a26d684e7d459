package lake

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestPublish(t *testing.T) {
	l, ctx := open(t, t.TempDir(), Options{}), context.Background()
	if _, ok, err := l.NewestManifest(ctx); ok || err != nil {
		t.Errorf("newest of none: %v, %v", ok, err)
	}
	first, err := l.Publish(ctx, Manifest{Step: 7, Offsets: map[string]map[int32]int64{"orders": {0: 5}}, Fingerprints: map[string]string{"gold.t": "f"},
		Tables: map[string]int64{"gold.t": 1 << 62}, Bronze: map[string]int64{"bronze.t": 3}, Attributes: map[string]string{"why": "cron"}})
	if err != nil {
		t.Fatal(err)
	}
	second, err := l.Publish(ctx, Manifest{Parent: first.ID, Step: 9})
	if err != nil {
		t.Fatal(err)
	}
	for _, parent := range []int64{0, 1, 3} {
		if _, err := l.Publish(ctx, Manifest{Parent: parent}); !errors.Is(err, ErrConflict) {
			t.Errorf("publish on %d: %v", parent, err)
		}
	}
	list, err := l.Manifests(ctx)
	equal(t, "manifests", list, []Manifest{first, second})
	equal(t, "error", err, nil)
	newest, ok, err := l.NewestManifest(ctx)
	equal(t, "newest", newest, second)
	equal(t, "there is one", ok, true)
	equal(t, "error", err, nil)
	if _, err := l.Manifest(ctx, 3); !errors.Is(err, ErrNoManifest) {
		t.Errorf("manifest 3: %v", err)
	}
}

func TestPublishersRace(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	won := 0
	var wg sync.WaitGroup
	for range 8 {
		l := open(t, dir, Options{})
		wg.Go(func() {
			_, err := l.Publish(context.Background(), Manifest{Step: 1})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !errors.Is(err, ErrConflict) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	equal(t, "winners", won, 1)
	left, _ := os.ReadDir(filepath.Join(dir, "manifests"))
	equal(t, "files", len(left), 1)
}

func TestPublishLostAnswer(t *testing.T) {
	ctx := context.Background()
	for point, published := range map[string]bool{PointManifest: false, PointPublished: true} {
		l := open(t, t.TempDir(), Options{Hook: func(e Event) error {
			if e.Point == point {
				return errors.New("stopped")
			}
			return nil
		}})
		_, err := l.Publish(ctx, Manifest{})
		equal(t, point+" unknown", errors.Is(err, ErrUnknownOutcome), published)
		_, ok, err := l.NewestManifest(ctx)
		equal(t, point+" is there", ok, published)
		equal(t, point+" error", err, nil)
	}
}

func TestDamagedManifest(t *testing.T) {
	l, ctx := open(t, t.TempDir(), Options{}), context.Background()
	m, err := l.Publish(ctx, Manifest{Step: 41})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(l.Dir(), "manifests", "000000000001.json")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, bad := range map[string][]byte{
		"cut":     good[:len(good)/2],
		"empty":   {},
		"flipped": bytes.Replace(good, []byte("41"), []byte("42"), 1),
		"zeros":   make([]byte, len(good)),
		"newer":   bytes.Replace(good, []byte(`"format":1`), []byte(`"format":9`), 1),
	} {
		if err := os.WriteFile(path, bad, 0o644); err != nil {
			t.Fatal(err)
		}
		for _, read := range []func() error{
			func() error { _, err := l.Manifest(ctx, m.ID); return err },
			func() error { _, err := l.Manifests(ctx); return err },
			func() error { _, _, err := l.NewestManifest(ctx); return err },
		} {
			if err := read(); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

func TestDropManifests(t *testing.T) {
	l, ctx := open(t, t.TempDir(), Options{}), context.Background()
	for i := range int64(6) {
		if _, err := l.Publish(ctx, Manifest{Parent: i}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.DropManifests(ctx, 2, 3); err != nil {
		t.Fatal(err)
	}
	var ids []int64
	list, err := l.Manifests(ctx)
	for _, m := range list {
		ids = append(ids, m.ID)
	}
	equal(t, "left", ids, []int64{3, 5, 6})
	equal(t, "error", err, nil)
	if err := l.DropManifests(ctx, 0); err != nil {
		t.Fatal(err)
	}
	if m, err := l.Publish(ctx, Manifest{Parent: 6}); err != nil || m.ID != 7 {
		t.Errorf("publish after dropping: %d, %v", m.ID, err)
	}
}
