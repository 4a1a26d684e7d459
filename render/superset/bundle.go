package superset

import (
	"archive/zip"
	"bytes"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"lockstep/compile"
	"lockstep/dashboard"

	"go.yaml.in/yaml/v3"
)

// DefaultURI is the SQLAlchemy URI of a Spark Thrift Server on this machine,
// which asks for no password.
const DefaultURI = "hive://lockstep@127.0.0.1:10000/gold"

// Options choose what the assets point to.
type Options struct {
	DatabaseURI string // SQLAlchemy; empty: DefaultURI. Its password is not written into the assets.
}

// Note says what Superset does not draw as the built-in page does.
type Note struct {
	Dashboard string // name
	Panel     string // name; empty: the dashboard as a whole
	Text      string
}

func (n Note) String() string {
	if n.Panel == "" {
		return n.Dashboard + ": " + n.Text
	}
	return n.Dashboard + ", panel " + n.Panel + ": " + n.Text
}

// Bundle is the assets of a project, in memory.
type Bundle struct {
	Project    string
	Files      map[string][]byte // by path, without a root folder
	Charts     []Chart           // in order of the dashboards
	Dashboards []Link
	Notes      []Note
	database   string // path of its file
	password   string // of the database
}

// Chart is one of the bundle's charts.
type Chart struct {
	UUID      string
	Title     string
	Dashboard string // name
	Panel     string // name
	By        string // the dimension in place of the panel's first; empty: its own
	Type      string // Superset's viz_type
}

// Link is one of the bundle's dashboards.
type Link struct {
	UUID, Title, Slug string
}

// dict is an object of Superset's files.
type dict = map[string]any

// Make gives the assets of checked dashboards (those of dashboard.Check).
func Make(program *compile.Program, dashboards []*dashboard.Dashboard, o Options) (*Bundle, error) {
	if len(dashboards) == 0 {
		return nil, errors.New("cannot make Superset assets: the project has no dashboards; write one in dashboards/")
	}
	b := newBuilder(program)
	if err := b.databaseFile(o.DatabaseURI); err != nil {
		return nil, err
	}
	for _, m := range program.Models {
		b.modelDataset(m)
	}
	for _, d := range dashboards {
		if err := b.dashboard(d); err != nil {
			return nil, err
		}
	}
	for _, d := range b.datasets {
		b.file("datasets/"+b.slug()+"/"+d.file()+".yaml", d.yaml(b.databaseUUID()))
	}
	// Superset wants a time; a fixed one keeps the files the same.
	b.file("metadata.yaml", dict{"version": "1.0.0", "type": "assets", "timestamp": "2020-01-01T00:00:00+00:00"})
	return b.bundle, b.err
}

// Render writes the assets into dir, which is made if absent, in place of
// assets that were rendered there before. It gives what Superset does not draw.
func Render(program *compile.Program, dashboards []*dashboard.Dashboard, dir string, o Options) ([]Note, error) {
	bundle, err := Make(program, dashboards, o)
	if err != nil {
		return nil, err
	}
	for _, part := range []string{"databases", "datasets", "charts", "dashboards"} {
		if err := os.RemoveAll(filepath.Join(dir, part)); err != nil {
			return nil, fmt.Errorf("cannot replace the assets in %s: %w", dir, err)
		}
	}
	for name, text := range bundle.Files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, fmt.Errorf("cannot write the assets to %s: %w", dir, err)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return nil, fmt.Errorf("cannot write the assets to %s: %w", dir, err)
		}
	}
	return bundle.Notes, nil
}

// Zip writes the bundle as Superset imports it.
func (b *Bundle) Zip(w io.Writer) error {
	z := zip.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(b.Files)) {
		f, err := z.Create(b.Project + "/" + name)
		if err == nil {
			_, err = f.Write(b.Files[name])
		}
		if err != nil {
			return fmt.Errorf("cannot pack the assets: %w", err)
		}
	}
	return z.Close()
}

// FS gives the bundle's files.
func (b *Bundle) FS() fs.FS {
	var buffer bytes.Buffer
	if err := b.Zip(&buffer); err != nil {
		panic(err) // a buffer takes everything
	}
	r, err := zip.NewReader(bytes.NewReader(buffer.Bytes()), int64(buffer.Len()))
	if err != nil {
		panic(err)
	}
	sub, err := fs.Sub(r, b.Project)
	if err != nil {
		panic(err)
	}
	return sub
}

// builder gathers a bundle.
type builder struct {
	program  *compile.Program
	bundle   *Bundle
	datasets []*dataset
	err      error
}

func newBuilder(program *compile.Program) *builder {
	name := program.Project.Name
	return &builder{program: program, bundle: &Bundle{Project: name, Files: map[string][]byte{}}}
}

func (b *builder) slug() string { return b.program.Project.Name }

func (b *builder) file(path string, content dict) {
	var text bytes.Buffer
	var node yaml.Node
	err := node.Encode(content)
	quote(&node)
	enc := yaml.NewEncoder(&text)
	enc.SetIndent(2)
	if err := errors.Join(err, enc.Encode(&node)); err != nil {
		b.err = errors.Join(b.err, fmt.Errorf("cannot write %s: %w", path, err))
	}
	b.bundle.Files[path] = text.Bytes()
}

// quote puts quotes where the YAML of Python, which is older, sees something
// else than text.
func quote(node *yaml.Node) {
	if node.Kind == yaml.ScalarNode && node.Tag == "!!str" && (node.Value == "=" || node.Value == "<<") {
		node.Style = yaml.DoubleQuotedStyle
	}
	for _, n := range node.Content {
		quote(n)
	}
}

func (b *builder) note(d *dashboard.Dashboard, panel, format string, args ...any) {
	b.bundle.Notes = append(b.bundle.Notes, Note{d.Name, panel, fmt.Sprintf(format, args...)})
}

// uuid names a thing of this project, always the same.
func (b *builder) uuid(kind, name string) string {
	return nameUUID("lockstep/" + b.program.Project.Name + "/" + kind + "/" + name)
}

func (b *builder) databaseUUID() string { return b.uuid("database", "") }

// hidden is what Superset writes in place of a password.
const hidden = "XXXXXXXXXX"

func (b *builder) databaseFile(uri string) error {
	if uri == "" {
		uri = DefaultURI
	}
	masked, password, err := mask(uri)
	if err != nil {
		return err
	}
	b.bundle.database, b.bundle.password = "databases/"+b.slug()+".yaml", password
	b.file(b.bundle.database, dict{
		"database_name":         "Lockstep " + b.program.Project.Name,
		"sqlalchemy_uri":        masked,
		"uuid":                  b.databaseUUID(),
		"expose_in_sqllab":      true,
		"allow_run_async":       false,
		"allow_ctas":            false,
		"allow_cvas":            false,
		"allow_dml":             false,
		"allow_csv_upload":      false,
		"impersonate_user":      false,
		"cache_timeout":         nil,
		"extra":                 dict{"allows_virtual_table_explore": true},
		"is_managed_externally": true,
		"version":               "1.0.0",
	})
	return nil
}

func mask(uri string) (masked, password string, err error) {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme == "" {
		return "", "", fmt.Errorf("cannot read the database URI %q: write one such as %s", uri, DefaultURI)
	}
	if u.User == nil {
		return uri, "", nil
	}
	password, has := u.User.Password()
	if !has {
		return uri, "", nil
	}
	u.User = url.UserPassword(u.User.Username(), hidden)
	return u.String(), password, nil
}

// nameUUID is RFC 9562's version 5 in the namespace of URLs.
func nameUUID(name string) string {
	space := []byte{0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8}
	sum := sha1.Sum(append(space, name...))
	sum[6], sum[8] = sum[6]&0x0f|0x50, sum[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}
