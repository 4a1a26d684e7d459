package lake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/apache/iceberg-go"
	icecat "github.com/apache/iceberg-go/catalog"
	"github.com/apache/iceberg-go/catalog/rest"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"
)

// RESTConfig says where a lake on a cluster is.
type RESTConfig struct {
	Catalog    string // URL of the Iceberg REST catalog
	Token      string // bearer token; empty: none
	Credential string // OAuth2 client id:secret; empty: none
	Warehouse  string // s3://bucket or s3://bucket/prefix; our objects are in lockstep/ below it

	S3Endpoint  string // URL; empty: that of Amazon
	S3AccessKey string // empty: what the AWS SDK finds
	S3SecretKey string
	S3Region    string
}

// How long a request to the catalog may take. A commit that takes longer has
// an unknown outcome.
const (
	readTimeout   = 30 * time.Second
	commitTimeout = time.Minute
)

// OpenREST opens the lake of a cluster. Its tables are shared with other
// programs: each commit asserts the state that it was based on, as ever.
func OpenREST(ctx context.Context, c RESTConfig, opts Options) (*Lake, error) {
	b, err := openBucket(ctx, c)
	if err != nil {
		return nil, err
	}
	l := newLake(strings.TrimRight(c.Warehouse, "/"), opts)
	u, _ := url.Parse(l.dir)
	prefix := strings.TrimPrefix(u.Path+"/lockstep/", "/")
	l.remote, l.files, l.objects = true, b, s3Objects{b, prefix, l.hook}
	if l.cat, err = openREST(ctx, c, b, l.hook); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return l, nil
}

// restCatalog is an Iceberg REST catalog. iceberg-go's client speaks to it;
// what an error means for the outcome is said here.
type restCatalog struct {
	client *rest.Catalog
	url    string
	files  files
	hook   hookFunc
}

func openREST(ctx context.Context, c RESTConfig, files files, hook hookFunc) (*restCatalog, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	opts := []rest.Option{rest.WithWarehouseLocation(c.Warehouse), rest.WithCustomTransport(transport)}
	if c.Token != "" {
		opts = append(opts, rest.WithOAuthToken(c.Token))
	}
	if c.Credential != "" {
		opts = append(opts, rest.WithCredential(c.Credential))
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	client, err := rest.NewCatalog(ctx, catalogName, c.Catalog, opts...)
	if err != nil {
		return nil, fmt.Errorf("cannot open the Iceberg catalog at %s: %w", c.Catalog, err)
	}
	return &restCatalog{client, c.Catalog, files, hook}, nil
}

func (c *restCatalog) close() error { return c.client.Close() }

func (c *restCatalog) fs(context.Context) (iceio.IO, error) { return c.files, nil }

func (c *restCatalog) tables(ctx context.Context) ([]string, error) {
	namespaces, err := c.client.ListNamespaces(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot list namespaces of catalog %s: %w", c.url, err)
	}
	var names []string
	for _, ns := range namespaces {
		for ident, err := range c.client.ListTables(ctx, ns) {
			if err != nil {
				return nil, fmt.Errorf("cannot list tables of catalog %s: %w", c.url, err)
			}
			if len(ident) == 2 { // deeper namespaces are not ours
				names = append(names, strings.Join(ident, "."))
			}
		}
	}
	slices.Sort(names)
	return names, nil
}

func (c *restCatalog) LoadTable(ctx context.Context, ident table.Identifier) (*table.Table, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	t, err := c.client.LoadTable(ctx, ident)
	switch {
	case errors.Is(err, icecat.ErrNoSuchTable), errors.Is(err, icecat.ErrNoSuchNamespace):
		return nil, fmt.Errorf("table %s.%s: %w", ident[0], ident[1], ErrNoTable)
	case err != nil:
		return nil, fmt.Errorf("cannot look up table %s.%s in catalog %s: %w", ident[0], ident[1], c.url, err)
	}
	return c.remember(ident, t.Metadata(), t.MetadataLocation()), nil
}

// remember gives the table its files and its catalog: ours.
func (c *restCatalog) remember(ident table.Identifier, meta table.Metadata, location string) *table.Table {
	return table.New(ident, meta, location, c.fs, c)
}

func (c *restCatalog) create(ctx context.Context, ident table.Identifier, sc *iceberg.Schema, spec *iceberg.PartitionSpec, props iceberg.Properties) (*table.Table, error) {
	name := ident[0] + "." + ident[1]
	if err := c.hook(ctx, PointMetadata, name); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	if err := c.createNamespace(ctx, ident[:1]); err != nil {
		return nil, fmt.Errorf("cannot create namespace %s in catalog %s: %w", ident[0], c.url, err)
	}
	t, err := c.client.CreateTable(ctx, ident, sc, icecat.WithPartitionSpec(spec), icecat.WithProperties(props))
	if errors.Is(err, icecat.ErrTableAlreadyExists) {
		return nil, fmt.Errorf("table %s: %w", name, conflict)
	}
	if err != nil {
		return nil, c.failed(name, err)
	}
	if err := c.hook(ctx, PointCommitted, name); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	return c.remember(ident, t.Metadata(), t.MetadataLocation()), nil
}

// createNamespace makes a namespace where it is missing. Of several that make
// the same one at once a catalog may answer some with a failure of its
// database: then it is there.
func (c *restCatalog) createNamespace(ctx context.Context, namespace table.Identifier) error {
	err := c.client.CreateNamespace(ctx, namespace, nil)
	if err == nil || errors.Is(err, icecat.ErrNamespaceAlreadyExists) {
		return nil
	}
	if there, e := c.client.CheckNamespaceExists(ctx, namespace); e == nil && there {
		return nil
	}
	return err
}

// CommitTable sends the commit once; the server checks the requirements.
func (c *restCatalog) CommitTable(ctx context.Context, ident table.Identifier, reqs []table.Requirement, updates []table.Update) (table.Metadata, string, error) {
	name := ident[0] + "." + ident[1]
	if err := c.hook(ctx, PointMetadata, name); err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	meta, loc, err := c.client.CommitTable(ctx, ident, reqs, updates)
	if errors.Is(err, table.ErrCommitFailed) {
		if meta, loc, err = c.landed(ctx, ident, updates, err); err != nil {
			return nil, "", fmt.Errorf("table %s: %w", name, err)
		}
	} else if err != nil {
		return nil, "", c.failed(name, err)
	}
	if err := c.hook(ctx, PointCommitted, name); err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	return meta, loc, nil
}

// landed gives the state of a table that has the snapshot which updates add,
// although the commit was refused; otherwise the conflict. Something between
// us and the catalog may send a commit twice, and the refusal of the second
// must not pass for that of the first, whose files are then in use.
func (c *restCatalog) landed(ctx context.Context, ident table.Identifier, updates []table.Update, refused error) (table.Metadata, string, error) {
	id := addedSnapshot(updates)
	if id == 0 {
		return nil, "", fmt.Errorf("%w: %w", conflict, refused)
	}
	t, err := c.LoadTable(ctx, ident)
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("%w: %w: %w", ErrUnknownOutcome, withoutSentinel(refused), err)
	case t.SnapshotByID(id) == nil:
		return nil, "", fmt.Errorf("%w: %w", conflict, refused)
	}
	return t.Metadata(), t.MetadataLocation(), nil
}

// withoutSentinel keeps only the text: iceberg-go removes the files of what it
// takes for a conflict.
func withoutSentinel(err error) error { return errors.New(err.Error()) }

// addedSnapshot is the id of the snapshot that updates add; 0: none.
func addedSnapshot(updates []table.Update) int64 {
	var added struct {
		Snapshot struct {
			ID int64 `json:"snapshot-id"`
		} `json:"snapshot"`
	}
	for _, u := range updates {
		if u.Action() != table.UpdateAddSnapshot {
			continue
		}
		if text, err := json.Marshal(u); err == nil && json.Unmarshal(text, &added) == nil {
			return added.Snapshot.ID
		}
	}
	return 0
}

// failed says what the error of a commit means. Only what the server refused,
// or never got, has certainly not happened.
func (c *restCatalog) failed(name string, err error) error {
	if errors.Is(err, icecat.ErrNoSuchTable) {
		return fmt.Errorf("table %s: %w", name, ErrNoTable)
	}
	for _, refused := range []error{rest.ErrBadRequest, rest.ErrUnauthorized, rest.ErrForbidden, rest.ErrAuthorizationExpired, icecat.ErrNoSuchNamespace} {
		if errors.Is(err, refused) {
			return fmt.Errorf("cannot commit table %s to catalog %s: %w", name, c.url, err)
		}
	}
	if neverSent(err) {
		return fmt.Errorf("cannot reach catalog %s to commit table %s: %w", c.url, name, err)
	}
	return fmt.Errorf("table %s in catalog %s: %w: %w", name, c.url, ErrUnknownOutcome, err)
}

// neverSent says whether a request failed before there was a connection.
func neverSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

func (c *restCatalog) drop(ctx context.Context, ident table.Identifier) (string, error) {
	t, err := c.LoadTable(ctx, ident)
	if errors.Is(err, ErrNoTable) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if err := c.client.DropTable(ctx, ident); err != nil && !errors.Is(err, icecat.ErrNoSuchTable) {
		return "", fmt.Errorf("cannot drop table %s.%s from catalog %s: %w", ident[0], ident[1], c.url, err)
	}
	return t.Location(), nil
}

// OpenObjects opens the objects of a cluster's lake alone, without its catalog.
func OpenObjects(ctx context.Context, c RESTConfig) (Objects, io.Closer, error) {
	b, err := openBucket(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	u, err := url.Parse(strings.TrimRight(c.Warehouse, "/"))
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("cannot read warehouse %s: %w", c.Warehouse, err), b.close())
	}
	none := func(context.Context, string, string) error { return nil }
	return s3Objects{b, strings.TrimPrefix(u.Path+"/lockstep/", "/"), none}, b, nil
}
