package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"lockstep/lake"
	"lockstep/project"
)

const (
	objectsPart = "s3"
	catalogPart = "catalog"
)

func (c *Config) restConfig() lake.RESTConfig {
	return lake.RESTConfig{
		Catalog: c.Catalog, Token: c.CatalogToken, Credential: c.CatalogCredential, Warehouse: c.Warehouse,
		S3Endpoint: c.S3Endpoint, S3AccessKey: c.S3AccessKey, S3SecretKey: c.S3SecretKey, S3Region: c.S3Region,
	}
}

// objects says whether the bucket can be used.
func (e *examination) objects(ctx context.Context) bool {
	var objects lake.Objects
	var closer io.Closer
	opened := e.Ask(ctx, objectsPart, "bucket of the warehouse", 30*time.Second, func(ctx context.Context) (string, error) {
		var err error
		objects, closer, err = lake.OpenObjects(ctx, e.config.restConfig())
		return e.config.Warehouse, mend(err, "see that the object store runs at s3_endpoint, that the bucket exists, and that s3_access_key and s3_secret_key are right")
	})
	if !opened {
		return false
	}
	defer closer.Close()
	return e.Ask(ctx, objectsPart, "put, get, list and delete an object", time.Minute, func(ctx context.Context) (string, error) {
		return "written once under one name: conditional put works", e.objectCycle(ctx, objects)
	})
}

func (e *examination) objectCycle(ctx context.Context, objects lake.Objects) (err error) {
	name := "doctor/" + e.scratch
	allow := "allow the user s3:PutObject, s3:GetObject, s3:DeleteObject and s3:ListBucket below " + e.config.Warehouse
	defer func() {
		if derr := objects.Delete(context.WithoutCancel(ctx), name); err == nil {
			err = mend(derr, "%s", allow)
		}
	}()
	if err := objects.PutNew(ctx, name, []byte("first")); err != nil {
		return mend(err, "%s", allow)
	}
	switch err := objects.PutNew(ctx, name, []byte("second")); {
	case err == nil:
		return &Fault{Problem: "an object that exists was written again although the request said If-None-Match: *",
			Remedy: "use an object store with conditional writes (Amazon S3, MinIO): without them two batches can publish the same manifest"}
	case !errors.Is(err, lake.ErrConflict):
		return mend(err, "use an object store with conditional writes (Amazon S3, MinIO)")
	}
	data, err := objects.Get(ctx, name)
	if err != nil {
		return mend(err, "%s", allow)
	}
	if !bytes.Equal(data, []byte("first")) {
		return &Fault{Problem: fmt.Sprintf("read %q after writing %q", data, "first"), Remedy: "use an object store that reads what was written"}
	}
	names, err := objects.List(ctx, "doctor/")
	if err != nil {
		return mend(err, "%s", allow)
	}
	if len(names) == 0 {
		return &Fault{Problem: "an object that was written is not listed", Remedy: "use an object store whose lists are consistent"}
	}
	return nil
}

// table is the scratch table, of columns that the engines could see differently.
func (e *examination) table() string { return "lockstep." + e.scratch }

var doctorColumns = []project.Column{
	{Name: "id", Type: project.Type{Kind: project.Bigint}},
	{Name: "at", Type: project.Type{Kind: project.Timestamp}},
}

// catalog says whether the scratch table is there for Spark to read. bucket: the
// tables' files can be written.
func (e *examination) catalog(ctx context.Context, bucket bool) (made bool) {
	if !e.Ask(ctx, catalogPart, "answers", 40*time.Second, e.catalogAnswers) {
		return false
	}
	if !bucket {
		e.skip(catalogPart, "tables", "it needs the bucket of the warehouse")
		return false
	}
	opened := e.Ask(ctx, catalogPart, "tables", 40*time.Second, func(ctx context.Context) (string, error) {
		l, err := OpenLake(ctx, e.config, e.log)
		if err != nil {
			return "", mend(err, "see the catalog's log")
		}
		e.lake = l
		tables, err := l.Tables(ctx)
		return fmt.Sprintf("%d tables", len(tables)), mend(err, "see the catalog's log; allow the user to list namespaces and tables")
	})
	if !opened {
		return false
	}
	return e.Ask(ctx, catalogPart, "create, write and read a table", time.Minute, func(ctx context.Context) (string, error) {
		return "a row that was committed is there", e.fillTable(ctx)
	})
}

// catalogAnswers asks for the catalog's configuration, which every client reads first.
func (e *examination) catalogAnswers(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.config.Catalog+"/v1/config", nil)
	if err != nil {
		return "", err
	}
	if e.config.CatalogToken != "" {
		req.Header.Set("Authorization", "Bearer "+e.config.CatalogToken)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", mend(err, "see that the catalog runs, and that catalog (%s) is its address without /v1", e.config.Catalog)
	}
	defer resp.Body.Close()
	login := resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden
	switch {
	case login && e.config.CatalogCredential == "":
		return "", &Fault{Problem: "it asks for a login: " + resp.Status, Remedy: "set catalog_token or catalog_credential"}
	case resp.StatusCode != http.StatusOK && !login:
		return "", &Fault{Problem: e.config.Catalog + "/v1/config answers " + resp.Status, Remedy: "catalog must be the address of an Iceberg REST catalog, without /v1"}
	}
	return e.config.Catalog, nil
}

func (e *examination) fillTable(ctx context.Context) error {
	allow := "allow the user to create, commit to and drop tables of namespace lockstep, and the catalog to write to " + e.config.Warehouse
	schema := project.ArrowSchema(doctorColumns)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	b.Field(0).(*array.Int64Builder).Append(1)
	b.Field(1).(*array.TimestampBuilder).Append(arrow.Timestamp(1_500_000_000_123_456))
	rows := b.NewRecordBatch()
	defer rows.Release()
	reader, err := array.NewRecordReader(schema, []arrow.RecordBatch{rows})
	if err != nil {
		return err
	}
	if _, err := e.lake.Replace(ctx, e.table(), doctorColumns, nil, reader, nil); err != nil {
		return mend(err, "%s", allow)
	}
	n, err := e.countTable(ctx)
	if err != nil {
		return mend(err, "%s", allow)
	}
	if n != 1 {
		return &Fault{Problem: fmt.Sprintf("read %d rows after writing 1", n), Remedy: "see that the catalog does not answer from a cache"}
	}
	return nil
}

func (e *examination) countTable(ctx context.Context) (int64, error) {
	scan, err := e.lake.Scan(ctx, e.table(), 0)
	if err != nil {
		return 0, err
	}
	_, batches, err := scan.Records(ctx)
	if err != nil {
		return 0, err
	}
	var n int64
	for batch, err := range batches {
		if err != nil {
			return 0, err
		}
		n += batch.NumRows()
		batch.Release()
	}
	return n, nil
}

func (e *examination) dropTable(ctx context.Context) {
	e.Ask(ctx, catalogPart, "drop a table", time.Minute, func(ctx context.Context) (string, error) {
		err := e.lake.Drop(ctx, e.table())
		if errors.Is(err, lake.ErrNoTable) {
			err = nil
		}
		return "nothing is left of it", mend(err, "drop %s by hand; `lockstep reset` needs this permission", e.table())
	})
}
