package superset

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
)

// Client speaks to a Superset's REST API as one of its users.
type Client struct {
	base  string
	http  *http.Client
	token string
	csrf  string

	user, password string
	session        bool // logged in as a page is, too
}

// Connect logs in at the Superset of that address, such as http://127.0.0.1:8088.
func Connect(ctx context.Context, address, user, password string) (*Client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("cannot read the address %q of Superset: write one such as http://127.0.0.1:8088", address)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	c := &Client{base: strings.TrimSuffix(address, "/"), http: &http.Client{Jar: jar}, user: user, password: password}
	var login struct {
		Token string `json:"access_token"`
	}
	body := dict{"username": user, "password": password, "provider": "db", "refresh": false}
	if err := c.call(ctx, http.MethodPost, "/api/v1/security/login", body, &login); err != nil {
		return nil, fmt.Errorf("cannot log in at %s as %s: %w", c.base, user, err)
	}
	c.token = login.Token
	var csrf struct {
		Result string `json:"result"`
	}
	if err := c.call(ctx, http.MethodGet, "/api/v1/security/csrf_token/", nil, &csrf); err != nil {
		return nil, fmt.Errorf("cannot log in at %s as %s: %w", c.base, user, err)
	}
	c.csrf = csrf.Result
	return c, nil
}

// call asks the API with a JSON body and reads a JSON answer.
func (c *Client) call(ctx context.Context, method, path string, body, into any) error {
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		reader = bytes.NewReader(text)
	}
	return c.send(ctx, method, path, "application/json", reader, into)
}

func (c *Client) send(ctx context.Context, method, path, kind string, body io.Reader, into any) error {
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "application/json")
	if body != nil {
		r.Header.Set("Content-Type", kind)
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.csrf != "" {
		r.Header.Set("X-CSRFToken", c.csrf)
		r.Header.Set("Referer", c.base)
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return refusal(answer.Status, text)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("the answer to %s is no JSON: %w", path, err)
	}
	return nil
}

// refusal finds what Superset says in an answer that is an error.
func refusal(status string, text []byte) error {
	var body struct {
		Message any    `json:"message"`
		Error   string `json:"error"`
		Errors  []struct {
			Message string `json:"message"`
			Extra   struct {
				Issues any `json:"issue_codes"`
			} `json:"extra"`
		} `json:"errors"`
	}
	if json.Unmarshal(text, &body) != nil {
		return errors.New(status)
	}
	var said []string
	for _, e := range body.Errors {
		said = append(said, e.Message)
	}
	if body.Error != "" {
		said = append(said, body.Error)
	}
	if body.Message != nil {
		said = append(said, fmt.Sprint(body.Message))
	}
	if len(said) == 0 {
		return errors.New(status)
	}
	return fmt.Errorf("%s: %s", status, strings.Join(said, "; "))
}

// Import brings the assets to Superset: what is there under their uuids is
// replaced, so a second import of the same changes nothing.
func (c *Client) Import(ctx context.Context, b *Bundle) error {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("bundle", b.Project+".zip")
	if err != nil {
		return err
	}
	if err := b.Zip(part); err != nil {
		return err
	}
	passwords := map[string]string{}
	if b.password != "" {
		passwords[b.database] = b.password
	}
	text, err := json.Marshal(passwords)
	if err != nil {
		return err
	}
	err = errors.Join(form.WriteField("passwords", string(text)), form.WriteField("sparse", "false"), form.Close())
	if err != nil {
		return err
	}
	if err := c.send(ctx, http.MethodPost, "/api/v1/assets/import/", form.FormDataContentType(), &body, nil); err != nil {
		return fmt.Errorf("cannot import the assets of %s into %s: %w", b.Project, c.base, err)
	}
	return nil
}

// Checked is what Superset answers for a chart.
type Checked struct {
	Chart
	ID    int              // in that Superset
	Rows  []map[string]any // of its first query; of para, its lines
	Error error            // instead of rows
}

// Check asks Superset for the data of every chart, past its cache. A chart that
// gets no row is not an error.
func (c *Client) Check(ctx context.Context, b *Bundle) []Checked {
	var out []Checked
	for _, chart := range b.Charts {
		x := Checked{Chart: chart}
		var found struct {
			Result struct {
				ID int `json:"id"`
			} `json:"result"`
		}
		x.Error = c.call(ctx, http.MethodGet, "/api/v1/chart/"+chart.UUID, nil, &found)
		x.ID = found.Result.ID
		if x.Error == nil {
			x.Rows, x.Error = c.data(ctx, x)
		}
		out = append(out, x)
	}
	return out
}

func (c *Client) data(ctx context.Context, x Checked) ([]map[string]any, error) {
	if x.Type == "para" {
		return c.oldData(ctx, x.ID)
	}
	var answer struct {
		Result []struct {
			Data  []map[string]any `json:"data"`
			Error string           `json:"error"`
		} `json:"result"`
	}
	if err := c.call(ctx, http.MethodGet, fmt.Sprintf("/api/v1/chart/%d/data/?force=true", x.ID), nil, &answer); err != nil {
		return nil, err
	}
	if len(answer.Result) == 0 {
		return nil, errors.New("the answer has no result")
	}
	for _, r := range answer.Result {
		if r.Error != "" {
			return nil, errors.New(r.Error)
		}
	}
	return answer.Result[0].Data, nil
}

// oldData asks as charts of the older kind do: by an address that only knows
// people who logged in on a page.
func (c *Client) oldData(ctx context.Context, id int) ([]map[string]any, error) {
	if !c.session {
		form := url.Values{"username": {c.user}, "password": {c.password}, "csrf_token": {c.csrf}}
		if err := c.send(ctx, http.MethodPost, "/login/", "application/x-www-form-urlencoded", strings.NewReader(form.Encode()), nil); err != nil {
			return nil, fmt.Errorf("cannot log in as a page does: %w", err)
		}
		c.session = true
	}
	form := url.Values{"form_data": {fmt.Sprintf(`{"slice_id": %d}`, id)}}
	var answer struct {
		Data  []map[string]any `json:"data"`
		Error string           `json:"error"`
	}
	err := c.send(ctx, http.MethodPost, "/superset/explore_json/?force=true", "application/x-www-form-urlencoded", strings.NewReader(form.Encode()), &answer)
	if err == nil && answer.Error != "" {
		err = errors.New(answer.Error)
	}
	return answer.Data, err
}

// URL is the address of the Superset.
func (c *Client) URL() string { return c.base }
