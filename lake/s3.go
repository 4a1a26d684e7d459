package lake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/io/gocloud/blobfs"
	_ "github.com/apache/iceberg-go/io/gocloud/s3" // files at s3://
	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// bucket is an S3 bucket: the tables' files by URI, objects by key.
type bucket struct {
	*blobfs.FileIO
	client *s3.Client
	name   string
}

// openBucket connects to the bucket of a warehouse and sees whether it is there.
func openBucket(ctx context.Context, c RESTConfig) (*bucket, error) {
	u, err := url.Parse(c.Warehouse)
	if err != nil || u.Scheme != "s3" || u.Host == "" {
		return nil, fmt.Errorf("cannot use warehouse %q: write s3://bucket or s3://bucket/prefix", c.Warehouse)
	}
	props := map[string]string{iceio.S3Region: c.S3Region}
	for key, value := range map[string]string{iceio.S3EndpointURL: c.S3Endpoint, iceio.S3AccessKeyID: c.S3AccessKey, iceio.S3SecretAccessKey: c.S3SecretKey} {
		if value != "" { // else what the SDK finds in the environment
			props[key] = value
		}
	}
	// The file system keeps its context for all it does later.
	fs, err := iceio.LoadFS(context.WithoutCancel(ctx), props, c.Warehouse)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to S3 for warehouse %s: %w", c.Warehouse, err)
	}
	b := &bucket{FileIO: fs.(*blobfs.FileIO), name: u.Host}
	if !b.As(&b.client) {
		return nil, fmt.Errorf("cannot connect to S3 for warehouse %s: no client", c.Warehouse)
	}
	if _, err := b.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &b.name}); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot use bucket %s at %s: %w; check the address and the keys, and that the bucket was made", b.name, orAmazon(c.S3Endpoint), err), b.Close())
	}
	return b, nil
}

func orAmazon(endpoint string) string {
	if endpoint == "" {
		return "Amazon S3"
	}
	return endpoint
}

// keyOf is what a URI names in the bucket.
func (b *bucket) keyOf(uri string) (string, error) {
	u, err := url.Parse(uri)
	if err != nil || u.Host != b.name || !strings.HasPrefix(u.Scheme, "s3") {
		return "", fmt.Errorf("cannot use %q: not in bucket %s", uri, b.name)
	}
	return strings.TrimPrefix(strings.TrimPrefix(uri, u.Scheme+"://"+u.Host), "/"), nil
}

// Remove removes a file; one that is gone already is no error.
func (b *bucket) Remove(uri string) error {
	key, err := b.keyOf(uri)
	if err != nil {
		return err
	}
	return b.delete(context.Background(), key)
}

func (b *bucket) delete(ctx context.Context, key string) error {
	_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.name, Key: &key})
	return err
}

func (b *bucket) removeAll(ctx context.Context, folder string) error {
	prefix, err := b.keyOf(folder)
	if err != nil {
		return err
	}
	keys, err := b.list(ctx, strings.TrimRight(prefix, "/")+"/")
	for len(keys) > 0 && err == nil {
		some := keys[:min(len(keys), 1000)] // the most that one request takes
		keys = keys[len(some):]
		var del types.Delete
		for _, k := range some {
			del.Objects = append(del.Objects, types.ObjectIdentifier{Key: aws.String(k)})
		}
		var out *s3.DeleteObjectsOutput
		if out, err = b.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &b.name, Delete: &del}); err == nil && len(out.Errors) > 0 {
			err = fmt.Errorf("%s: %s", aws.ToString(out.Errors[0].Key), aws.ToString(out.Errors[0].Message))
		}
	}
	return err
}

// list gives all keys that begin with prefix, in order.
func (b *bucket) list(ctx context.Context, prefix string) ([]string, error) {
	pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: &prefix})
	var keys []string
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("cannot list s3://%s/%s: %w", b.name, prefix, err)
		}
		for _, o := range page.Contents {
			keys = append(keys, aws.ToString(o.Key))
		}
	}
	return keys, nil
}

// sync has nothing to wait for: what S3 took is durable.
func (b *bucket) sync(string) error { return nil }

func (b *bucket) close() error { return b.Close() }

// s3Objects are objects below a prefix of a bucket.
type s3Objects struct {
	*bucket
	prefix string // ends with a slash
	hook   hookFunc
}

func (o s3Objects) place(name string) string { return "s3://" + o.name + "/" + o.prefix + name }

func (o s3Objects) key(name string) *string { return aws.String(o.prefix + name) }

func (o s3Objects) Get(ctx context.Context, name string) ([]byte, error) {
	out, err := o.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &o.bucket.name, Key: o.key(name)})
	var missing *types.NoSuchKey
	if errors.As(err, &missing) {
		return nil, fmt.Errorf("%s: %w", o.place(name), ErrNoObject)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", o.place(name), err)
	}
	data, err := io.ReadAll(out.Body)
	if err = errors.Join(err, out.Body.Close()); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", o.place(name), err)
	}
	return data, nil
}

func (o s3Objects) Put(ctx context.Context, name string, data []byte) error {
	_, err := o.client.PutObject(ctx, &s3.PutObjectInput{Bucket: &o.bucket.name, Key: o.key(name), Body: bytes.NewReader(data)})
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", o.place(name), err)
	}
	return nil
}

// PutNew sends one request and no second one: that could find the object of
// the first, whose answer was lost, and take it for another writer's.
func (o s3Objects) PutNew(ctx context.Context, name string, data []byte) error {
	if err := o.hook(ctx, PointManifest, ""); err != nil {
		return err
	}
	_, err := o.client.PutObject(context.WithoutCancel(ctx),
		&s3.PutObjectInput{Bucket: &o.bucket.name, Key: o.key(name), Body: bytes.NewReader(data), IfNoneMatch: aws.String("*")},
		func(opts *s3.Options) { opts.RetryMaxAttempts = 1 })
	if err == nil {
		return nil
	}
	var answer *awshttp.ResponseError
	switch status := 0; {
	case errors.As(err, &answer):
		status = answer.HTTPStatusCode()
		if status == http.StatusPreconditionFailed || status == http.StatusConflict {
			return fmt.Errorf("%s: %w", o.place(name), ErrConflict)
		}
		if status >= 400 && status < 500 {
			return fmt.Errorf("cannot write %s: %w", o.place(name), err)
		}
	case neverSent(err):
		return fmt.Errorf("cannot write %s: %w", o.place(name), err)
	}
	return fmt.Errorf("%s: %w: %w", o.place(name), ErrUnknownOutcome, err)
}

func (o s3Objects) List(ctx context.Context, prefix string) ([]string, error) {
	keys, err := o.list(ctx, o.prefix+prefix)
	for i := range keys {
		keys[i] = strings.TrimPrefix(keys[i], o.prefix)
	}
	return keys, err
}

func (o s3Objects) Delete(ctx context.Context, name string) error {
	if err := o.delete(ctx, o.prefix+name); err != nil {
		return fmt.Errorf("cannot remove %s: %w", o.place(name), err)
	}
	return nil
}

func (o s3Objects) sweep(time.Duration) error { return nil } // S3 takes an object whole or not at all
